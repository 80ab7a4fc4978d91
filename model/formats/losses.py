"""What of an annotation was lost while it was read: told line by line, and kept with its record."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace

import numpy as np

from model.formats.masks import has_pixels
from model.formats.problems import OnProblem, Remark, problem_line
from model.records import Outline, Polygon, Record

Size = tuple[int, int]


def with_losses(make: Callable[[OnProblem], Record], on_problem: OnProblem) -> Record:
    """The record that `make` gives, without what lies outside of its image or repeats another object.

    Each line told on the way is in `unread`, but for remarks. `make` gets what it has to tell its problems to; what it
    raises goes on.
    """
    lost: list[str] = []

    def tell(line: str) -> None:
        if not isinstance(line, Remark):
            lost.append(line)
        on_problem(line)

    record = without_repeats(make(tell), tell)
    within = []
    for number, outline in enumerate(record.outlines, start=1):
        inner, reasons = inside(outline, record.size_hw)
        within += inner
        for reason in reasons:
            tell(problem_line(record.image, f"object {number} ({outline.label})", reason))
    return replace(record, outlines=tuple(within), unread=(*record.unread, *lost))


def without_repeats(record: Record, on_problem: OnProblem) -> Record:
    """The record with each object once: of those that are alike to the last point the first; a remark counts the rest.

    Tools that copy the objects of the image before, or pasted ones, write such twins.
    """
    kept: dict[Hashable, Outline] = {}
    for outline in record.outlines:
        rings = (ring.tobytes() for part in outline.parts for ring in (part.exterior, *part.holes))
        kept.setdefault((outline.label, outline.score, *rings), outline)
    if twins := len(record.outlines) - len(kept):
        told = f"left out {twins} of its {len(record.outlines)} objects, each exactly like another one; delete them"
        on_problem(Remark(problem_line(record.image, told)))
    return replace(record, outlines=tuple(kept.values()))


def inside(outline: Outline, size_hw: Size) -> tuple[list[Outline], list[str]]:
    """The object with the parts that lie in an image of that size at all, or none; and a line for each other part."""
    parts = [part for part in outline.parts if _is_inside(part, size_hw)]
    reasons = list(_reasons([part for part in outline.parts if part not in parts], size_hw))
    return ([replace(outline, parts=tuple(parts))] if parts else []), reasons


def _reasons(outside: list[Polygon], size_hw: Size) -> Iterator[str]:
    for part in outside:
        (x0, y0), (x1, y1) = part.exterior.min(0), part.exterior.max(0)
        yield (
            f"x {x0:g}..{x1:g}, y {y0:g}..{y1:g} lies outside of its image of {size_hw[1]} x {size_hw[0]} px and is "
            "left out; export it again with the image that was annotated, or delete it"
        )


def _is_inside(part: Polygon, size_hw: Size) -> bool:
    """Whether a part has a corner in the image or covers one of its pixels."""
    points, size_xy = part.exterior, np.array(size_hw[::-1])
    if ((points > 0) & (points < size_xy)).all(1).any():
        return True
    low, high = points.min(0), points.max(0)
    return bool((high > 0).all() and (low < size_xy).all()) and has_pixels(part, size_hw)
