"""Lines of YOLO's label files, and what is said of those that cannot be read."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from model.formats import yolo
from tests.model.formats.yolo_folders import SQUARE, flat, mask_of, outlines_of, told, write


def test_a_line_is_a_class_and_shares_of_the_image(tmp_path: Path) -> None:
    (outline,) = outlines_of(flat(tmp_path, f"1 {SQUARE}\n"))
    assert outline.label == "stem" and outline.score is None
    assert outline.parts[0].exterior.tolist() == [[2, 2], [10, 2], [10, 10], [2, 10]]


@pytest.mark.parametrize(
    "lines",
    [
        f"0 {SQUARE}",
        f"\n\n0 {SQUARE}\n\n \n",
        f"0 {SQUARE}\r\n".encode(),
        b"\xef\xbb\xbf" + f"0 {SQUARE}\n".encode(),
        f"0.0\t{SQUARE.replace(' ', '  ')} \n",
        f"0 {SQUARE} 0.1 0.1",
        f"0 {SQUARE.replace('0.1', '1e-1')}",
    ],
    ids=["no end of line", "blank lines", "windows", "byte order mark", "tabs", "closed", "exponents"],
)
def test_lines_may_be_written_in_many_ways(tmp_path: Path, lines: str | bytes) -> None:
    (outline,) = outlines_of(flat(tmp_path, lines))
    assert mask_of(outline).sum() == 64 and len(outline.parts[0].exterior) == 4


def test_the_count_of_numbers_tells_boxes_outlines_and_confidences_apart(tmp_path: Path) -> None:
    lines = [
        "0 0.5 0.5 0.2 0.2",
        f"0 {SQUARE}",
        "1 0.5 0.5 0.2 0.2 0.9",
        f"1 {SQUARE} 0.87",
        "0 0.1 0.1 0.5 0.1 0.5 0.5",
    ]
    problems: list[str] = []
    (record,) = yolo.read(flat(tmp_path, "\n".join(lines)), problems.append)
    assert [(outline.label, outline.score) for outline in record.outlines] == [
        ("leaf", None),
        ("stem", 0.87),
        ("leaf", None),
    ]
    boxes = "left out 2 boxes, lines of 5 numbers or of 6 with a confidence (1, 3); outline them"
    assert problems == [f"{tmp_path / 'a.txt'}: {boxes}"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0", "wanted a class and 3 points or more, got 0 numbers after the class"),
        ("0 0.1 0.2 0.3", "got 3 numbers after the class"),
        ("2 " + SQUARE, r"class 2 has no name in .*data\.yaml, its classes are 0..1"),
        ("-1 " + SQUARE, "class -1 has no name"),
        ("0.5 " + SQUARE, "class 0.5 has no name"),
        ("nan " + SQUARE, "class nan has no name"),
        ("leaf " + SQUARE, "wanted numbers with blanks between them, got 'leaf 0.1"),
        ("0,0.1,0.1,0.5,0.1,0.5,0.5", "wanted numbers with blanks between them"),
        ("0 40 40 200 40 200 200", "a coordinate is 200, wanted shares of the image, 0..1; divide pixels by its size"),
        ("0 0.1 0.1 1.5 0.1 0.5 0.5", "a coordinate is 1.5"),
        ("0 0.1 -0.1 0.5 0.1 0.5 0.5", "a coordinate is -0.1"),
        ("0 0.1 nan 0.5 0.1 0.5 0.5", "a coordinate is nan"),
        ("0 0.1 inf 0.5 0.1 0.5 0.5", "a coordinate is inf"),
        ("0 0.1 1e308 0.5 0.1 0.5 0.5", r"a coordinate is 1e\+308"),
        ("0 " + SQUARE + " 7", "the last of an odd count of numbers is a confidence, 0..1, got 7; take it out"),
        # https://github.com/ultralytics/yolov5/issues/11476: the number of the object comes second
        ("0 1952 " + SQUARE, "a coordinate is 1952, wanted shares of the image"),
    ],
)
def test_a_broken_line_costs_only_itself(tmp_path: Path, line: str, reason: str) -> None:
    labels, problems = told(flat(tmp_path, f"0 {SQUARE}\n{line}\n1 {SQUARE}\n"))
    assert labels == {"a.jpg": ["leaf", "stem"]}
    (problem,) = problems
    assert re.match(rf"a\.txt: line 2: .*{reason}", problem)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xfe0\x00 \x00", "save it as UTF-8"),
        (b"\0\0", "line 1: wanted numbers with blanks between them"),
        ("{", "line 1: wanted numbers"),
        ("<annotation/>", "line 1: wanted numbers"),
    ],
)
def test_what_is_no_label_file_is_one_line(tmp_path: Path, content: str | bytes, reason: str) -> None:
    write(tmp_path, {"b.jpg": "", "b.txt": f"0 {SQUARE}"})
    labels, problems = told(flat(tmp_path, content))
    assert labels["b.jpg"] == ["leaf"]
    (problem,) = problems
    assert re.search(rf"a\.txt.*{reason}", problem)


def test_decimal_commas_are_read_and_told(tmp_path: Path) -> None:
    labels, problems = told(flat(tmp_path, f"0 {SQUARE.replace('.', ',')}\n1 {SQUARE.replace('.', ',')}\n"))
    assert labels == {"a.jpg": ["leaf", "stem"]}
    assert problems == ["a.txt: its decimal commas are read as points"]


def test_an_image_with_a_box_is_not_read_whole_and_one_with_decimal_commas_is(tmp_path: Path) -> None:
    write(flat(tmp_path, "0 0.5 0.5 0.2 0.2"), {"b.jpg": "", "b.txt": f"0 {SQUARE.replace('.', ',')}"})
    boxed, commas = yolo.read(tmp_path, lambda line: None)
    assert len(boxed.unread) == 1 and "left out 1 boxes" in boxed.unread[0]
    assert commas.unread == ()


@pytest.mark.parametrize("slip", ["-0.003", "-0.05"])
def test_what_reaches_a_little_over_the_edge_is_cut_off(tmp_path: Path, slip: str) -> None:
    over = 1 - float(slip)
    (outline,) = outlines_of(flat(tmp_path, f"0 {slip} {slip} {over} {slip} {over} {over} {slip} {over}"))
    assert outline.parts[0].exterior.tolist() == [[0, 0], [20, 0], [20, 20], [0, 20]]


def test_an_empty_file_is_an_image_without_objects_and_none_is_an_image_that_is_not_annotated(tmp_path: Path) -> None:
    labels, problems = told(write(flat(tmp_path, ""), {"b.jpg": "", "sub/c.PNG": ""}))
    assert labels == {"a.jpg": []}
    mend = "an empty one would say that the image holds nothing"
    assert problems == [f"{tmp_path}: 2 images have no label file and are left out; {mend} (b.jpg, sub/c.PNG)"]


@pytest.mark.parametrize(
    "points", ["1.01 .1 1.04 .1 1.04 .4 1.01 .4", ".1 .1 .1 .1 .1 .1"], ids=["outside", "one place"]
)
def test_an_outline_without_area_is_told(tmp_path: Path, points: str) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((40, 40, 3), np.uint8))
    (tmp_path / "a.txt").write_text(f"0 {points}\n0 .1 .1 .6 .1 .6 .6\n")
    (tmp_path / "classes.txt").write_text("leaf\n")
    told: list[str] = []
    (record,) = yolo.read(tmp_path, told.append)
    assert len(record.outlines) == 1 and len(record.unread) == 1 and "no area inside" in told[0]
