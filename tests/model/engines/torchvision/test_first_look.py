from __future__ import annotations

import torch

from model.engines.torchvision.first_look import FEW, MOST, RIVALS, FirstLook, worth_sampling


def look(*proposals: tuple[float, float, tuple[float, float, float, float]]) -> FirstLook:
    """Proposals as (probability of class 0, of class 1, box for both)."""
    boxes = torch.tensor([[box, box] for _, _, box in proposals]).reshape(-1, 2, 4)
    probabilities = torch.tensor([[a, b] for a, b, _ in proposals]).reshape(-1, 2)
    return FirstLook(probabilities, boxes, boxes[:, 0])


LEFT, RIGHT = (0.0, 0.0, 10.0, 10.0), (50.0, 0.0, 60.0, 10.0)


BACKGROUND = [(0.0, 0.0, RIGHT)] * FEW
"""So many proposals more that one has to choose."""


def test_background_is_not_worth_sampling() -> None:
    rows = worth_sampling(look((0.9, 0.0, LEFT), (0.1, 0.05, RIGHT), *BACKGROUND))
    assert rows.tolist() == [0]


def test_a_lower_confidence_threshold_lets_more_proposals_in() -> None:
    doubtful = look((0.9, 0.0, LEFT), (0.1, 0.05, RIGHT), *BACKGROUND)
    assert worth_sampling(doubtful, confidence_threshold=0.1).tolist() == [0, 1]


def test_what_is_in_doubt_between_the_classes_counts_with_all_of_them() -> None:
    assert worth_sampling(look((0.06, 0.06, LEFT))).tolist() == [0]


def test_the_best_come_first() -> None:
    rows = worth_sampling(look((0.3, 0.0, RIGHT), (0.9, 0.0, LEFT), (0.2, 0.1, RIGHT), (0.0, 0.6, LEFT)))
    assert rows.tolist() == [1, 3, 0, 2]


def test_of_one_object_only_the_best_few_are_kept() -> None:
    crowd = [(0.9 - 0.01 * i, 0.0, LEFT) for i in range(20)]
    rows = worth_sampling(look(*crowd, (0.3, 0.0, RIGHT), *BACKGROUND))
    assert rows.tolist() == [*range(RIVALS), 20]


def test_of_few_proposals_all_with_any_foreground_are_kept() -> None:
    crowd = [(0.9 - 0.01 * i, 0.0, LEFT) for i in range(20)]
    assert worth_sampling(look(*crowd, (0.03, 0.0, RIGHT), (0.01, 0.0, RIGHT))).tolist() == list(range(21))


def test_there_are_never_more_than_a_limit() -> None:
    many = [(0.5, 0.0, (20.0 * i, 0.0, 20.0 * i + 10, 10.0)) for i in range(MOST + 50)]
    assert len(worth_sampling(look(*many))) == MOST


def test_where_more_objects_are_looked_for_each_may_be_sampled() -> None:
    many = [(0.9 - 0.001 * i, 0.0, (20.0 * i, 0.0, 20.0 * i + 10, 10.0)) for i in range(MOST + 50)]
    assert worth_sampling(look(*many), objects=800).tolist() == list(range(MOST + 50)), "the last is the least certain"
    assert len(worth_sampling(look(*many), objects=100)) == MOST


def test_nothing_is_worth_nothing() -> None:
    for nothing in (look(), look((0.0, 0.01, LEFT))):
        assert len(worth_sampling(nothing)) == 0
