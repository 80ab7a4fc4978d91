from __future__ import annotations

import numpy as np

from sampling.first_images import cover

GROUPS = np.array([[6.0, 0, 0], [0, 6.0, 0], [0, 0, 6.0]])


def grouped(*counts: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, 3) around one place for each group, and the groups (n,)."""
    groups = np.repeat(np.arange(len(counts)), counts)
    return GROUPS[groups] + np.random.default_rng(3).normal(0, 0.2, (len(groups), 3)), groups


def nothing(features: np.ndarray) -> np.ndarray:
    return np.zeros(len(features), bool)


def test_each_group_is_seen_before_one_is_seen_twice() -> None:
    features, groups = grouped(40, 6, 3)
    picks = cover(features, nothing(features), 10)
    assert sorted(groups[p.index] for p in picks[:3]) == [0, 1, 2]
    assert groups[picks[0].index] == 0 and picks[0].stands_for == 1.0, "the first one stands for the most, and for all"
    assert sorted(p.index for p in picks) == list(range(49))
    assert [p.stands_for is None for p in picks] == [False] * 10 + [True] * 39


def test_what_is_annotated_is_covered_and_not_chosen_again() -> None:
    features, groups = grouped(40, 6, 3)
    picks = cover(features, groups == 0, 5)
    assert {groups[p.index] for p in picks} == {1, 2} and len(picks) == 9
    assert groups[picks[0].index] == 1 and groups[picks[1].index] == 2


def test_what_is_not_chosen_one_by_one_follows_by_what_it_would_bring() -> None:
    features, groups = grouped(40, 6, 3)
    assert groups[[pick.index for pick in cover(features, nothing(features), 1)]][[1, 6, 7, 9, 10]].tolist() == [
        1,
        1,
        2,
        2,
        0,
    ]


def test_the_order_stays_as_it_was_while_its_first_are_annotated_in_any_order() -> None:
    features, _ = grouped(20, 15, 10)
    order = [p.index for p in cover(features, nothing(features), 20)]
    annotated = nothing(features)
    annotated[order[:7][::-1]] = True
    assert [p.index for p in cover(features, annotated, 13)][:13] == order[7:20]


def test_copies_come_last() -> None:
    features, _ = grouped(5, 5, 5)
    picks = cover(np.concatenate([features, features]), nothing(np.concatenate([features, features])), 30)
    assert {p.index % 15 for p in picks[:15]} == set(range(15))


def test_no_image_one_image_and_images_that_are_all_alike_are_ordered() -> None:
    assert cover(np.zeros((0, 3)), np.zeros(0, bool), 5) == []
    assert [p.index for p in cover(np.ones((1, 3)), np.zeros(1, bool), 5)] == [0]
    assert sorted(p.index for p in cover(np.ones((4, 3)), np.zeros(4, bool), 2)) == [0, 1, 2, 3]
    assert cover(np.ones((4, 3)), np.ones(4, bool), 2) == []
