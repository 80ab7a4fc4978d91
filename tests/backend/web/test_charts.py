from __future__ import annotations

from itertools import pairwise

import pytest

from backend.care.overview import Certainties
from backend.rounds.history import History, Measured
from backend.web import charts


def measured(number: int, ap: float | None, interval=None, *, promoted: bool = True) -> Measured:
    of_class = {"leaf": (ap, interval)}
    return Measured(f"maskal-r{number}", 20 * number, ap, interval, of_class, promoted, "", "2026-01-01T00:00:00+00:00")


HISTORY = History(
    (
        measured(1, 0.2, (0.1, 0.3)),
        measured(2, 0.1, promoted=False),
        measured(3, 0.5),
        measured(4, 0.4, (0.3, 0.5)),
        measured(5, None),
    ),
    frozenset({"maskal-r3"}),
)


def test_the_line_runs_through_the_versions_that_stayed() -> None:
    curve = charts.learning_curve(HISTORY, "maskal-r4")
    assert [mark.state for mark in curve.marks] == ["accepted", "refused", "rolled back", "served"]
    assert curve.line.count("L") == 1 and curve.band.endswith("Z")
    first, last = curve.marks[0], curve.marks[-1]
    assert first.x < last.x and first.y > last.y, "more images to the right, better ones above"
    assert first.high < first.y < first.low, "y runs downwards"
    refused = curve.marks[1]
    assert refused.low == refused.y == refused.high, "no interval was measured"


def test_a_class_has_a_curve_of_its_own() -> None:
    one = Measured("maskal-r1", 20, 0.9, None, {"leaf": (0.2, (0.1, 0.3))}, True, "", "")
    curve = charts.learning_curve(History((one,)), "maskal-r1", "leaf")
    assert curve.marks[0].measured.mask_ap == 0.2 and curve.marks[0].high < curve.marks[0].y
    assert charts.learning_curve(History((one,)), "maskal-r1", "spot") is None


def test_there_is_no_curve_without_a_measurement() -> None:
    assert charts.learning_curve(History(), None) is None
    assert charts.learning_curve(History((measured(1, None),)), "maskal-r1") is None


@pytest.mark.parametrize(
    ("largest", "whole"), [(1, True), (7, True), (412, True), (0.05, False), (1.0, False), (3e4, True)]
)
def test_an_axis_reaches_its_largest_value_in_few_round_steps(largest: float, whole: bool) -> None:
    ticks = charts._ticks(largest, whole=whole)
    assert ticks[0] == 0 and ticks[-1] >= largest - 1e-9 and 2 <= len(ticks) <= 7
    assert len({round(b - a, 9) for a, b in pairwise(ticks)}) == 1


def test_a_histogram_shows_shares_so_that_versions_compare() -> None:
    now, before = Certainties("maskal-r4", (0, 1, 3, 0), 2), Certainties("maskal-r3", (30, 10, 0, 0), 0)
    drawn = charts.histogram([now, before])
    heights = [bar.height for bar in drawn.bars]
    assert heights[2] == pytest.approx(3 * heights[1], rel=0.01) and heights[0] == heights[3] == 0
    assert "0.50 to 0.75: 3 images" in drawn.bars[2].told and drawn.before.startswith("M")
    assert charts.histogram([now]).before == "" and charts.histogram([]) is None
    assert charts.histogram([Certainties("maskal-r1", (0, 0), 9)]) is None


def test_a_class_has_a_line_once_two_versions_that_stayed_were_measured() -> None:
    assert charts.spark(HISTORY, "leaf", "maskal-r4").line.count("L") == 1
    assert charts.spark(HISTORY, "unknown", "maskal-r4") is None
    assert charts.spark(History((measured(1, 0.4),)), "leaf", "maskal-r1") is None


def test_the_shade_of_a_cell_is_its_share_of_the_row() -> None:
    assert [charts.heat(count, (9, 1, 0)) for count in (9, 1, 0)] == [9, 1, 0]
    assert charts.heat(0, (0, 0)) == 0
