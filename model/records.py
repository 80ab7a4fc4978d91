"""Annotated images in a neutral form: what every annotation format reads into and writes from."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real

import numpy as np

from model.errors import BadRecord

FARTHEST_PX = 2.0**30
"""How far from an image's corner a point may lie: more is no slip of the hand, and no browser can draw it."""


@dataclass(frozen=True, eq=False)
class Polygon:
    """One connected part of an object: an outer ring and the rings of its holes.

    Rings are (k, 2) float arrays of (x, y) in pixels from the top left corner of the image, where pixel
    column 0 spans x = 0..1; they are closed implicitly (the first point is not repeated).
    """

    exterior: np.ndarray
    holes: tuple[np.ndarray, ...] = ()

    def __post_init__(self) -> None:
        for ring in (self.exterior, *self.holes):
            if ring.ndim != 2 or ring.shape[1] != 2 or len(ring) < 3:
                raise BadRecord(
                    f"an outline needs at least 3 points of (x, y), got an array of shape {ring.shape}; "
                    "close the polygon or delete the region"
                )
            if not np.isfinite(ring).all():
                raise BadRecord("an outline holds a coordinate that is not a finite number; delete the region")
            if (farthest := np.abs(ring).max()) > FARTHEST_PX:
                raise BadRecord(f"an outline holds the coordinate {farthest:g}, wanted pixels; delete the region")


@dataclass(frozen=True, eq=False)
class Outline:
    """One object: its label and all its parts; of a predicted one also how sure the model was, 0..1."""

    label: str
    parts: tuple[Polygon, ...]
    score: float | None = None

    def __post_init__(self) -> None:
        if not self.parts:
            raise BadRecord(f"object {self.label!r} has no part; delete the region or draw its outline")
        is_number = isinstance(self.score, Real)  # also numpy's
        if self.score is not None and not (is_number and 0 <= self.score <= 1):
            raise BadRecord(
                f"the score of object {self.label!r} is {self.score!r}, wanted 0..1; correct it or leave it out"
            )


@dataclass(frozen=True, eq=False)
class Record:
    """One annotated image; no outlines means that it was reviewed and holds no object.

    unread   a line for each thing of its annotation that could not be read. Such an image does not count as annotated:
             whoever learned from it would take an object for background.
    """

    image: str
    size_hw: tuple[int, int]
    outlines: tuple[Outline, ...]
    unread: tuple[str, ...] = ()


def boxes_of(record: Record) -> np.ndarray:
    """Boxes (n, 4) float32 x0, y0, x1, y1 around a record's objects, within the image, in pixels."""
    return np.array([_box(outline, record.size_hw) for outline in record.outlines], np.float32).reshape(-1, 4)


def _box(outline: Outline, size_hw: tuple[int, int]) -> np.ndarray:
    points = np.concatenate([part.exterior for part in outline.parts])
    return np.clip([*points.min(0), *points.max(0)], 0, [*size_hw[::-1], *size_hw[::-1]])
