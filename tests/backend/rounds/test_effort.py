from __future__ import annotations

import pytest

from backend.label_studio.corrections import Corrections
from backend.rounds.effort import Effort, effort_of
from backend.rounds.receipt import Line

KEPT = Corrections(kept=3, moved=1, relabelled=0, deleted=0, added=1, iou=0.9)
EMPTY = Corrections(kept=0, moved=0, relabelled=0, deleted=0, added=4, iou=None)


def line(number: int, version: str | None = "maskal-r1", seconds: float | None = 10.0, **fields: object) -> Line:
    given = {"is_known": True, "corrections": KEPT if version == "maskal-r1" else None, **fields}
    return Line(number, number, version, lead_time_s=seconds, who=1, when="", **given)  # type: ignore[arg-type]


def test_without_a_line_nothing_is_measured() -> None:
    assert effort_of([]) == Effort()
    assert Effort().iou is None and Effort().seconds is None


def test_outlines_add_up_and_overlaps_count_by_their_outlines() -> None:
    lost = Corrections(kept=0, moved=1, relabelled=0, deleted=3, added=0, iou=0.5)
    found = effort_of([line(1), line(2, corrections=lost)])
    assert (found.images, found.proposed, found.kept, found.moved, found.deleted, found.added) == (2, 8, 3, 2, 3, 1)
    assert found.iou == pytest.approx((4 * 0.9 + 0.5) / 5)


def test_who_began_with_nothing_is_told_apart_from_who_is_not_known() -> None:
    rows = [line(1, None), line(2, "maskal-r0", corrections=KEPT), line(3, corrections=EMPTY)]
    found = effort_of([*rows, line(4, None, is_known=False), line(5, None, seconds=None)])
    assert (found.images, found.blank_images, found.unknown_images, found.proposed) == (0, 3, 2, 0), "5 was imported"


def test_a_median_time_needs_enough_annotations_with_a_time() -> None:
    rows = [line(number, seconds=float(number)) for number in range(1, 6)]
    assert effort_of(rows).seconds == 3.0 and effort_of(rows).blank_seconds is None
    assert effort_of([*rows[:4], line(9, seconds=None)]).seconds is None, "an imported one has no time"
