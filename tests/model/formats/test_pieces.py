from __future__ import annotations

import math

import numpy as np
import pytest

from model.errors import BadRecord
from model.formats.pieces import Piece, join
from model.formats.problems import noted, problem_line
from model.formats.shapes import ellipse, rectangle, ring
from model.geometry import polygons_to_mask
from model.records import Polygon
from tests.model.formats.scenes import box

SQUARE = (Polygon(box(1, 1, 9, 9)),)


def test_pieces_without_group_are_objects_of_their_own() -> None:
    assert len(join([Piece("leaf", SQUARE), Piece("leaf", SQUARE)])) == 2


def test_an_empty_text_is_no_group() -> None:
    assert len(join([Piece("leaf", SQUARE, ""), Piece("leaf", SQUARE, "")])) == 2


def test_a_group_is_told_by_its_value_and_label() -> None:
    outlines = join([Piece("leaf", SQUARE, 1, 0.5), Piece("stem", SQUARE, 1), Piece(" leaf ", SQUARE, 1, 0.7)])
    assert [(o.label, len(o.parts), o.score) for o in outlines] == [("leaf", 2, 0.5), ("stem", 1, None)]


def test_only_boxes_of_a_group_are_its_object() -> None:
    boxes = [Piece("leaf", (rectangle(x, 0, x + 4, 4),), 1, is_box=True) for x in (0, 10)]
    assert [len(outline.parts) for outline in join(boxes)] == [2]


def test_a_problem_is_one_line_with_its_file_told_once() -> None:
    problems: list[str] = []
    with noted(problems.append, "a.json", "shape 1"):
        raise ValueError("two\nlines")
    with noted(problems.append, "a.json"):
        raise KeyError("points")
    assert problems == ["a.json: shape 1: two lines", "a.json: 'points' is missing or stands for nothing in the file"]
    assert problem_line("a.json", "image 1", "image 12 is broken") == "a.json: image 1: image 12 is broken"


def test_what_is_no_fault_of_the_file_is_not_hidden() -> None:
    with pytest.raises(AssertionError), noted(print, "a.json"):
        raise AssertionError("ours")


def test_a_ring_is_open() -> None:
    assert len(ring([[0, 0], [4, 0], [4, 4], [0, 0]])) == 3
    assert len(ring([[0, 0], [4, 0], [4, 4]])) == 3


@pytest.mark.parametrize("radius", [0.4, 3, 50, 2000])
def test_an_ellipse_is_as_large_as_it_should(radius: float) -> None:
    points = ellipse(0, 0, radius, radius / 2, degrees=33).exterior
    x, y = points.T
    area = abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2
    assert area == pytest.approx(math.pi * radius * radius / 2, rel=0.03)
    assert len(points) <= 720


def test_a_turned_rectangle_keeps_its_middle() -> None:
    turned = rectangle(2, 4, 12, 8, degrees=45).exterior
    assert turned.mean(0).tolist() == pytest.approx([7, 6])
    assert polygons_to_mask([rectangle(0, 0, 4, 2)], (4, 4)).sum() == 8


@pytest.mark.parametrize("label", [None, "", "  ", 3, ["leaf"]])
def test_a_piece_wants_a_label(label: object) -> None:
    with pytest.raises(BadRecord, match="wanted a label"):
        Piece(label, SQUARE)
