"""What every outliner is: the seam between what somebody draws and whatever finds the object there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np


def _no_points() -> np.ndarray:
    return np.zeros((0, 2))


@dataclass(frozen=True, eq=False)
class Click:
    """A point on an object, pixels.

    point_xy   (2,)
    not_on_xy  (n, 2) points that the object does not cover
    side_px    longest side of the box around an object of this kind, None if no one has shown one yet
    """

    point_xy: np.ndarray
    not_on_xy: np.ndarray = field(default_factory=_no_points)
    side_px: float | None = None


class Outliner(Protocol):
    """Outlines the object that somebody draws a box around, or clicks on.

    Here a network of one's own fits in, such as a SAM-like ONNX file: `look` is its image encoder, `in_box` and
    `at_point` are its decoder. One image is looked at once; several threads never use an outliner at the same time.

    classes   names of the objects that it can tell apart, `label` indexes them; none if it outlines whatever is there
    """

    @property
    def classes(self) -> tuple[str, ...]:
        """What it can tell apart."""
        ...

    def look(self, image: np.ndarray) -> Any:
        """What the other two need of an RGB uint8 (h, w, 3) image, and are given: worth keeping for the next object."""
        ...

    def in_box(self, seen: Any, box_xyxy: np.ndarray, label: int | None) -> np.ndarray:
        """The mask (h, w) bool of the object in a box (4,), never empty; NoOutline says why there is none."""
        ...

    def at_point(self, seen: Any, click: Click, label: int | None) -> np.ndarray:
        """The mask (h, w) bool of the object at a click, never empty; NoOutline says why there is none."""
        ...
