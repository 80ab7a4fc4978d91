from __future__ import annotations

from typing import Any

import pytest

from backend.label_studio.corrections import Corrections, corrections_of
from backend.label_studio.labels import parse_label_config
from tests.backend.configs import POLYGONS

LABELS = parse_label_config(POLYGONS)


def square(name: str, left: float = 10.0, label: str = "leaf", side: float = 20.0) -> dict[str, Any]:
    """A region of an image of 200 x 100 px, in percent."""
    right = left + side
    return {
        "id": name,
        "type": "polygonlabels",
        "from_name": "shape",
        "to_name": "image",
        "original_width": 200,
        "original_height": 100,
        "value": {"points": [[left, 10], [right, 10], [right, 50], [left, 50]], "polygonlabels": [label]},
    }


def test_an_untouched_pre_label_is_kept_whatever_digits_it_comes_back_with() -> None:
    again = square("a", left=10.0000001)
    assert corrections_of([square("a")], [{**again, "origin": "prediction", "score": 0.9}], LABELS) == Corrections(
        kept=1, moved=0, relabelled=0, deleted=0, added=0, iou=1.0
    )


def test_each_kind_of_correction_is_counted_once() -> None:
    proposed = [square("kept"), square("moved", 40), square("named", 60), square("gone", 75)]
    submitted = [square("kept"), square("moved", 50), square("named", 60, "spot"), square("new", 5)]
    found = corrections_of(proposed, submitted, LABELS)
    assert (found.kept, found.moved, found.relabelled, found.deleted, found.added) == (1, 1, 1, 1, 1)
    assert found.proposed == 4
    assert found.iou == pytest.approx((1 + 1 / 3 + 1) / 3, abs=1e-3), "half of the moved one lies on what it was"


def test_what_is_said_of_a_region_is_no_region_of_its_own() -> None:
    rating = {"id": "a", "type": "rating", "from_name": "r", "to_name": "image", "value": {"rating": 3}}
    assert corrections_of([square("a")], [square("a"), rating], LABELS).added == 0


def test_a_region_that_cannot_be_read_is_moved_and_measures_nothing() -> None:
    broken = square("a")
    broken["value"] = {"points": [[1, 1]], "polygonlabels": ["leaf"]}
    found = corrections_of([square("a")], [broken], LABELS)
    assert (found.kept, found.moved, found.iou) == (0, 1, None)


def test_an_empty_pre_label_has_only_what_was_added() -> None:
    assert corrections_of([], [square("a"), square("b", 50)], LABELS) == Corrections(0, 0, 0, 0, 2, None)
