"""What a version makes of an image, as it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backend.rounds.seen_objects import SeenImage  # needs torch, and who keeps scores does not


@dataclass(frozen=True, slots=True)
class Scored:
    """What a version makes of an image.

    certainty     0..1, None where nothing was found in any pass
    regions       the pre-label, as Label Studio's
    class_counts  objects of each of the engine's classes that a pass finds in the mean
    embedding     what the image looks like as a whole
    seen          what the untouched backbone sees in it, where a strategy asks for that; kept in a file of its own
    """

    certainty: float | None
    regions: list[dict[str, Any]]
    class_counts: Sequence[float] = ()
    embedding: Sequence[float] = ()
    seen: SeenImage | None = None

    def as_json(self) -> dict[str, Any]:
        """All but what is kept elsewhere."""
        row = asdict(replace(self, seen=None))
        del row["seen"]
        return row
