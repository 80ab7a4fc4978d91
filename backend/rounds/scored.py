"""What a version makes of an image, as it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Scored:
    """What a version makes of an image.

    certainty     0..1, None where nothing was found in any pass
    regions       the pre-label, as Label Studio's
    class_counts  objects of each of the engine's classes that a pass finds in the mean
    embedding     what the image looks like as a whole
    """

    certainty: float | None
    regions: list[dict[str, Any]]
    class_counts: Sequence[float] = ()
    embedding: Sequence[float] = ()
