from __future__ import annotations

import numpy as np
import pytest

from model.judging.mistakes import confusion_of, mistakes_in
from tests.model.scenes import boxes_to_detections, boxes_to_truth

SIZE_HW = (60, 100)
LEFT, MIDDLE, RIGHT = (2, 2, 22, 22), (32, 2, 52, 22), (72, 2, 92, 22)


def scene():
    """Three objects of the classes 0, 1 and 0; the first is found, the second under another name, the third missed."""
    truth = boxes_to_truth([LEFT, MIDDLE, RIGHT], [0, 1, 0], SIZE_HW)
    found = boxes_to_detections([LEFT, MIDDLE, (2, 32, 22, 52)], [0, 0, 1], [0.9, 0.8, 0.7], SIZE_HW)
    return truth, found


def test_each_object_is_right_confused_missed_or_invented():
    wrong = mistakes_in(*scene(), score_threshold=0.5)
    assert (wrong.right, wrong.confused, wrong.missed, wrong.invented) == (((0, 0),), ((1, 1),), (2,), (2,))
    assert len(wrong) == 3


def test_what_scores_too_low_was_not_found():
    wrong = mistakes_in(*scene(), score_threshold=0.85)
    assert wrong.right == ((0, 0),) and wrong.missed == (1, 2) and wrong.invented == ()


def test_of_two_finds_of_one_object_the_surer_one_has_it():
    truth = boxes_to_truth([LEFT], [0], SIZE_HW)
    found = boxes_to_detections([LEFT, LEFT], [1, 0], [0.6, 0.9], SIZE_HW)
    wrong = mistakes_in(truth, found, 0.5)
    assert wrong.right == ((0, 1),) and wrong.invented == (0,)


def test_the_table_counts_every_object_and_every_find_once():
    truth, found = scene()
    wrong = mistakes_in(truth, found, 0.5)
    table = confusion_of([truth], [found], [wrong], 2)
    assert table.tolist() == [[1, 0, 1], [1, 0, 0], [0, 1, 0]]
    assert table[:2].sum() == len(truth.labels) and table[:, :2].sum() == len(found.labels)


@pytest.mark.parametrize("objects", [0, 1])
def test_images_without_objects_or_finds_are_fine(objects: int):
    truth = boxes_to_truth([LEFT][:objects], [0][:objects], SIZE_HW)
    nothing = boxes_to_detections([], [], [], SIZE_HW)
    wrong = mistakes_in(truth, nothing, 0.5)
    assert wrong.missed == tuple(range(objects)) and not wrong.invented
    assert confusion_of([truth], [nothing], [wrong], 1).tolist() == [[0, objects], [0, 0]]
    assert np.array_equal(confusion_of([], [], [], 1), np.zeros((2, 2)))
