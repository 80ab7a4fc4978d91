"""The pieces that a file holds, and the objects that they make up."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.errors import BadRecord
from model.records import Outline, Polygon, Record

FRAME_PX = 2.0  # how far a box may lie off an outline to be only the frame around it


@dataclass(frozen=True, eq=False)
class Piece:
    """One shape of a file. Those with the same group and label are parts of one object; None or "" is no group."""

    label: Any
    parts: tuple[Polygon, ...]
    group: Hashable | None = None
    score: float | None = None
    is_box: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.label, str) or not self.label.strip():
            raise BadRecord(f"wanted a label, got {self.label!r}; choose one or delete the object")
        # what else joining would find fault with, while the place in the file is known
        hash(self.group)
        Outline(self.label, self.parts, self.score)


def join(pieces: Iterable[Piece]) -> tuple[Outline, ...]:
    """One outline for each object, in the order of their first pieces; the first score that is told counts.

    Boxes that only frame the outlines of their own object are left out: datumaro writes one for each mask.
    """
    objects: dict[Hashable, list[Piece]] = {}
    for number, piece in enumerate(pieces):
        key = (None, number) if piece.group in (None, "") else ((piece.group,), piece.label.strip())
        objects.setdefault(key, []).append(piece)
    return tuple(
        Outline(
            own[0].label.strip(),
            tuple(part for piece in _without_frames(own) for part in piece.parts),
            next((piece.score for piece in own if piece.score is not None), None),
        )
        for own in objects.values()
    )


def _without_frames(pieces: list[Piece]) -> list[Piece]:
    drawn = [piece for piece in pieces if not piece.is_box]
    if not drawn or len(drawn) == len(pieces):
        return pieces
    inside = _bounds(drawn)
    return [piece for piece in pieces if not piece.is_box or np.abs(_bounds([piece]) - inside).max() > FRAME_PX]


def _bounds(pieces: list[Piece]) -> np.ndarray:
    """(2, 2) float: the smallest and the largest x and y."""
    points = np.concatenate([part.exterior for piece in pieces for part in piece.parts])
    return np.stack([points.min(0), points.max(0)])


def check_labels(record: Record, classes: Sequence[str]) -> None:
    """BadRecord that names the image if one of its objects has a label that is not among the classes."""
    for outline in record.outlines:
        if outline.label not in classes:
            raise BadRecord(f"object of {record.image} is a {outline.label!r}, wanted one of {tuple(classes)}")
