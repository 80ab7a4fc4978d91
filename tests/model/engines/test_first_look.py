from __future__ import annotations

import torch

from model.engines.first_look import FEW, MOST, MOST_PER_OBJECT, FirstLook, worth_sampling


def look(*proposals: tuple[float, float, tuple[float, float, float, float]]) -> FirstLook:
    """Proposals as (probability of class 0, of class 1, box for both)."""
    boxes = torch.tensor([[box, box] for _, _, box in proposals]).reshape(-1, 2, 4)
    return FirstLook(torch.tensor([[a, b] for a, b, _ in proposals]).reshape(-1, 2), boxes)


LEFT, RIGHT = (0.0, 0.0, 10.0, 10.0), (50.0, 0.0, 60.0, 10.0)


BACKGROUND = [(0.0, 0.0, RIGHT)] * FEW
"""So many proposals more that one has to choose."""


def test_background_is_not_worth_sampling() -> None:
    worth = worth_sampling(look((0.9, 0.0, LEFT), (0.03, 0.02, RIGHT), *BACKGROUND))
    assert worth.rows.tolist() == [0]


def test_what_is_in_doubt_between_the_classes_counts_with_all_of_them() -> None:
    assert worth_sampling(look((0.06, 0.06, LEFT))).rows.tolist() == [0]


def test_the_best_come_first_and_know_their_object() -> None:
    worth = worth_sampling(look((0.3, 0.0, RIGHT), (0.9, 0.0, LEFT), (0.2, 0.1, RIGHT), (0.0, 0.6, LEFT)))
    assert worth.rows.tolist() == [1, 3, 0, 2]
    assert worth.objects.tolist() == [list(LEFT), list(RIGHT)]
    assert worth.belongs_to.tolist() == [0, 0, 1, 1]


def test_of_one_object_only_the_best_few_are_kept() -> None:
    crowd = [(0.9 - 0.01 * i, 0.0, LEFT) for i in range(20)]
    worth = worth_sampling(look(*crowd, (0.3, 0.0, RIGHT), *BACKGROUND))
    assert worth.rows.tolist() == [*range(MOST_PER_OBJECT), 20]


def test_of_few_proposals_all_with_any_foreground_are_kept() -> None:
    crowd = [(0.9 - 0.01 * i, 0.0, LEFT) for i in range(20)]
    worth = worth_sampling(look(*crowd, (0.03, 0.0, RIGHT), (0.01, 0.0, RIGHT)))
    assert worth.rows.tolist() == list(range(21))
    assert worth.belongs_to.tolist() == [0] * 20 + [1]


def test_there_are_never_more_than_a_limit() -> None:
    many = [(0.5, 0.0, (20.0 * i, 0.0, 20.0 * i + 10, 10.0)) for i in range(MOST + 50)]
    assert len(worth_sampling(look(*many)).rows) == MOST


def test_nothing_is_worth_nothing() -> None:
    for nothing in (look(), look((0.0, 0.01, LEFT))):
        worth = worth_sampling(nothing)
        assert (len(worth.rows), len(worth.objects), len(worth.belongs_to)) == (0, 0, 0)
