"""What lies in an image, and what a record loses on the way."""

from __future__ import annotations

import numpy as np
import pytest

from model.errors import BadRecord
from model.formats.losses import inside, with_losses
from model.records import FARTHEST_PX, Outline, Polygon, Record
from tests.model.formats.scenes import box

SIZE_HW = (20, 30)


@pytest.mark.parametrize(
    ("part", "is_kept"),
    [
        (box(5, 5, 9, 9), True),
        (box(0, 0, 30, 20), True),
        (box(-50, -50, 90, 90), True),
        (box(-5, 5, 40, 9), True),
        (box(28, 18, 40, 40), True),
        (box(5, 5, 5.2, 5.2), True),
        (box(30, 5, 40, 9), False),
        (box(5, -9, 9, 0), False),
        (box(100, 100, 130, 130), False),
        (np.array([[29, -40], [90, 30], [90, -40]], float), False),
    ],
    ids=["within", "all of it", "around it", "across", "corner", "speck", "right", "above", "far", "round the corner"],
)
def test_what_covers_nothing_of_the_image_is_left_out(part: np.ndarray, is_kept: bool) -> None:
    kept, reasons = inside(Outline("leaf", (Polygon(part),)), SIZE_HW)
    assert (len(kept), len(reasons)) == ((1, 0) if is_kept else (0, 1))
    assert is_kept or "lies outside of its image of 30 x 20 px and is left out" in reasons[0]


def test_a_record_keeps_what_was_told_of_it_and_of_no_other() -> None:
    told: list[str] = []
    leaf = Outline("leaf", (Polygon(box(5, 5, 9, 9)), Polygon(box(50, 5, 59, 9))))

    def make(tell) -> Record:
        tell("a.json: shape 1: broken")
        return Record("a.png", SIZE_HW, (leaf,))

    record = with_losses(make, told.append)
    assert [len(outline.parts) for outline in record.outlines] == [1]
    assert record.unread == tuple(told) and len(told) == 2
    assert with_losses(lambda tell: Record("b.png", SIZE_HW, ()), told.append).unread == ()


def test_of_objects_that_are_exactly_alike_the_first_counts_and_the_others_are_told() -> None:
    told: list[str] = []
    square, moved, with_hole = (
        Polygon(box(5, 5, 9, 9)),
        Polygon(box(5, 5, 9, 8)),
        Polygon(box(5, 5, 9, 9), (box(6, 6, 8, 8),)),
    )
    drawn = [("leaf", (square,)), ("stem", (square,)), ("leaf", (square,)), ("leaf", (moved,)), ("leaf", (with_hole,))]
    outlines = tuple(Outline(label, parts) for label, parts in [*drawn, drawn[0]])
    record = with_losses(lambda tell: Record("a.png", SIZE_HW, outlines), told.append)
    kept = [(outline.label, outline.parts) for outline in record.outlines]
    assert kept == [drawn[0], drawn[1], drawn[3], drawn[4]]
    assert told == ["a.png: left out 2 of its 6 objects, each exactly like another one; delete them"]
    assert record.unread == ()


@pytest.mark.parametrize("far", [1e308, -1e308, 2 * FARTHEST_PX])
def test_a_coordinate_that_no_image_has_is_refused(far: float) -> None:
    with pytest.raises(BadRecord, match=r"holds the coordinate .*, wanted pixels; delete the region"):
        Polygon(np.array([[1, 1], [far, 1], [9, 9]]))
    Polygon(np.array([[1, 1], [FARTHEST_PX, 1], [9, 9]]))
