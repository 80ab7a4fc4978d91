from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from model.errors import NoOutline
from model.geometry import box_of, mask_to_polygons
from model.outlining.trial import IMAGES, iou_of_answers, loose_box
from model.records import Outline, Record

SIZE = (60, 90)


def square(x: int, y: int, side: int = 12) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[y : y + side, x : x + side] = True
    return mask


def record(name: str, *masks: np.ndarray) -> Record:
    return Record(name, SIZE, tuple(Outline("thing", mask_to_polygons(mask)) for mask in masks))


class Answers:
    """An outliner that answers with the box as it is, or never."""

    classes = ()

    def __init__(self, is_silent: bool = False) -> None:
        self.is_silent, self.looked = is_silent, 0

    def look(self, image: np.ndarray) -> Any:
        self.looked += 1
        return image

    def in_box(self, seen: Any, box_xyxy: np.ndarray, label: int | None) -> np.ndarray:
        if self.is_silent:
            raise NoOutline("nothing")
        x1, y1, x2, y2 = np.round(box_xyxy).astype(int)
        mask = np.zeros(SIZE, bool)
        mask[y1:y2, x1:x2] = True
        return mask

    def at_point(self, seen: Any, click: Any, label: int | None) -> np.ndarray:
        raise AssertionError("nobody clicks")


MANY = [record(str(i), square(5, 5), square(40, 20), square(70, 40)) for i in range(IMAGES + 5)]


def image(record: Record) -> np.ndarray:
    return np.zeros((*SIZE, 3), np.uint8)


def test_whoever_is_nearer_to_the_objects_has_the_higher_mean() -> None:
    found = iou_of_answers({"boxes": Answers(), "nobody": Answers(is_silent=True)}, MANY, image, seed=1)
    assert found is not None and found["objects"] == IMAGES * 3
    assert 0.6 < found["boxes"] <= 1.0 and found["nobody"] == 0.0
    assert found == iou_of_answers({"boxes": Answers(), "nobody": Answers(is_silent=True)}, MANY, image, seed=1)


@pytest.mark.parametrize("records", [[], MANY[:2], [record(str(i), square(5, 5, 3)) for i in range(30)]])
def test_few_or_tiny_objects_say_nothing(records: list[Record]) -> None:
    outliner = Answers()
    assert iou_of_answers({"boxes": outliner}, records, image, seed=1) is None
    assert outliner.looked <= 2


def test_a_drawn_box_holds_its_object_and_ends_with_the_image() -> None:
    for x, y in ((0, 0), (40, 20), (78, 48)):
        mask = square(x, y)
        box, drawn = box_of(mask), loose_box(mask, np.random.default_rng(x))
        assert (drawn[:2] <= box[:2]).all() and (drawn[2:] >= box[2:]).all()
        assert (np.abs(drawn - box) <= 0.08 * 12 + 1e-9).all() and (drawn >= 0).all() and (drawn[2:] <= (90, 60)).all()
