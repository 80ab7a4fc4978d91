from __future__ import annotations

import time

import cv2
import numpy as np
import pytest

from model.errors import NoOutline
from model.outlining.base import Click
from model.outlining.grabcut import GrabCut

RED, WHITE = (200, 40, 40), (240, 240, 235)


def disc(size_hw: tuple[int, int], centre: tuple[int, int], radius: int, *, noise: int = 8) -> tuple:
    """A red disc on white, RGB, and its mask."""
    mask = np.zeros(size_hw, np.uint8)
    cv2.circle(mask, centre, radius, 1, -1)
    image = np.where(mask[..., None] > 0, RED, WHITE) + np.random.default_rng(0).integers(-noise, noise, (*size_hw, 3))
    return image.clip(0, 255).astype(np.uint8), mask > 0


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("radius", [4, 10, 60])
def test_the_object_in_a_box_is_found_whatever_its_size(radius: int) -> None:
    image, truth = disc((200, 260), (120, 90), radius)
    box = np.array([118 - radius, 88 - radius, 123 + radius, 93 + radius], float)
    assert iou(GrabCut().in_box(image, box), truth) > (0.7 if radius < 10 else 0.9)


def test_a_part_that_looks_like_the_object_beyond_the_box_is_not_taken() -> None:
    image, truth = disc((100, 200), (50, 50), 20)
    other, second = disc((100, 200), (120, 50), 20)
    image[second] = other[second]
    found = GrabCut().in_box(image, np.array([27, 27, 74, 74], float))
    assert iou(found, truth) > 0.9 and not (found & second).any()


def test_holes_are_the_object_s_own() -> None:
    image, truth = disc((100, 100), (50, 50), 30)
    cv2.circle(image, (50, 50), 6, WHITE, -1)
    assert GrabCut().in_box(image, np.array([17, 17, 84, 84], float))[50, 50] and truth[50, 50]


def test_a_click_finds_the_object_that_stands_out() -> None:
    image, truth = disc((200, 260), (120, 90), 30)
    assert iou(GrabCut().at_point(image, Click(np.array([125.0, 95.0]))), truth) > 0.9


def nested() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A dark spot on a red disc on white."""
    image, large = disc((200, 260), (120, 90), 70)
    small = np.zeros(large.shape, np.uint8)
    cv2.circle(small, (130, 95), 12, 1, -1)
    image[small > 0] = (150, 60, 50)
    return image, large, small > 0


def test_a_click_on_what_lies_on_another_object_follows_the_size_of_its_kind_and_the_points_beside_it() -> None:
    image, large, small = nested()
    at = np.array([130.0, 95.0])
    assert iou(GrabCut().at_point(image, Click(at)), large) > 0.9, "it stands out most"
    assert iou(GrabCut().at_point(image, Click(at, side_px=26.0)), small) > 0.8
    assert iou(GrabCut().at_point(image, Click(at, np.array([[80.0, 60.0]]))), small) > 0.8


@pytest.mark.parametrize("noise", [0, 8])
def test_where_nothing_differs_there_is_no_answer_and_a_reason(noise: int) -> None:
    blank = (240 + np.random.default_rng(0).integers(-noise, noise + 1, (80, 80, 3))).clip(0, 255).astype(np.uint8)
    with pytest.raises(NoOutline, match="nothing in the box differs in colour"):
        GrabCut().in_box(blank, np.array([20, 20, 60, 60], float))
    with pytest.raises(NoOutline, match="nothing at the click stands out"):
        GrabCut().at_point(blank, Click(np.array([40.0, 40.0])))


def test_a_box_as_large_as_the_image_and_one_at_its_rim_are_answered() -> None:
    image, truth = disc((60, 80), (40, 30), 25)
    assert iou(GrabCut().in_box(image, np.array([0, 0, 80, 60], float)), truth) > 0.85
    cut, half = disc((60, 80), (0, 30), 20)
    assert iou(GrabCut().in_box(cut, np.array([0, 8, 22, 52], float)), half) > 0.85
    assert iou(GrabCut().at_point(cut, Click(np.array([3.0, 30.0]))), half) > 0.8


def test_a_rectangle_that_fills_its_box_is_its_own_answer() -> None:
    image = np.full((80, 100, 3), 240, np.uint8)
    image[20:60, 30:70] = (30, 60, 160)
    truth = image[..., 0] == 30
    assert iou(GrabCut().in_box(image, np.array([30, 20, 70, 60], float)), truth) > 0.9


def test_the_same_box_and_click_give_the_same_answer() -> None:
    image = np.random.default_rng(1).integers(0, 255, (120, 120, 3)).astype(np.uint8)
    image = cv2.GaussianBlur(image, (0, 0), 6)
    box, click = np.array([30, 30, 90, 90], float), Click(np.array([60.0, 60.0]))
    cv2.setRNGSeed(99)
    first = GrabCut().in_box(image, box), GrabCut().at_point(image, click)
    cv2.setRNGSeed(5)
    again = GrabCut().in_box(image, box), GrabCut().at_point(image, click)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))


def test_an_image_of_24_megapixels_costs_no_more_than_a_second() -> None:
    image, truth = disc((4000, 6000), (3000, 2000), 1500, noise=2)
    started = time.process_time()
    assert iou(GrabCut().in_box(image, np.array([1450, 450, 4550, 3550], float)), truth) > 0.9
    assert time.process_time() - started < 1.0
