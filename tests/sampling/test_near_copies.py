from __future__ import annotations

from itertools import pairwise

import pytest

from model.near_copies import CHECKS
from sampling.near_copies import CROWD, TAIL, Shown, Waiting, below_tail, copies_among, copies_last


def queue_of(count: int, *held_out: int) -> list[Waiting]:
    """Images 1 to `count` in their order."""
    return [Waiting(key, key / (count + 1), key in held_out) for key in range(1, count + 1)]


def twins_of(*groups: set[int]) -> dict[int, set[int]]:
    return {key: group - {key} for group in groups for key in group}


def test_a_copy_of_what_comes_before_or_is_annotated_goes_to_the_end_and_none_is_lost() -> None:
    placed = copies_last(queue_of(6), twins_of({1, 2, 5}, {3, 90}), {90: True})
    assert [(one.key, one.copy_of) for one in placed] == [(1, None), (4, None), (6, None), (2, 1), (3, 90), (5, 1)]
    scores = [one.score for one in placed]
    assert scores == sorted(set(scores)) and scores[:3] == [1 / 7, 4 / 7, 6 / 7], "the others keep their certainty"
    assert scores[3] > 1 - TAIL and scores[-1] < 1


def test_a_queue_without_copies_stays_as_it_is() -> None:
    queue = [Waiting(1, 0.2), Waiting(2, 0.995), Waiting(3, 1.0)]
    placed = copies_last(queue, twins_of({1, 90}, {91, 92}), {})
    assert [(one.key, one.score, one.copy_of) for one in placed] == [(1, 0.2, None), (2, 0.995, None), (3, 1.0, None)]


def test_the_most_certain_image_still_comes_before_a_copy() -> None:
    queue = [Waiting(1, 0.9), Waiting(2, 0.95), Waiting(3, 0.99), Waiting(4, 1.0)]
    placed = copies_last(queue, twins_of({1, 2}), {})
    assert [one.key for one in placed] == [1, 3, 4, 2] and all(a.score < b.score for a, b in pairwise(placed))


def test_a_chain_is_judged_by_direct_likeness_alone() -> None:
    chain = {1: {2}, 2: {1, 3}, 3: {2}}
    assert copies_among(queue_of(3), chain, {}) == {2: 1}, "3 is like 2, which is not annotated before it"


def known_in_part(count: int, seen: int) -> dict[int, set[int]]:
    """Images 1 to `count`, all alike, each of which was compared with the last `seen` alone."""
    last = set(range(count - seen + 1, count + 1))
    twins: dict[int, set[int]] = {key: last - {key} for key in range(1, count + 1)}
    for key in last:
        twins[key] = set(range(1, count + 1)) - {key}
    return twins


def test_of_a_crowd_one_is_kept_although_not_all_pairs_are_known() -> None:
    twins = known_in_part(3 * CROWD, CROWD)
    assert set(copies_among(queue_of(3 * CROWD), twins, {})) == set(range(2, 3 * CROWD + 1))
    assert len(copies_among(queue_of(30), known_in_part(30, 3), {})) == 3, "of few copies all pairs were looked at"


def test_as_many_copies_as_are_looked_for_make_a_crowd_and_one_less_does_not() -> None:
    def copies(count: int) -> dict[int, int]:
        around_0 = {0: set(range(1, count + 1)), **{key: {0} for key in range(1, count + 1)}}
        return copies_among(queue_of(count), around_0, {})

    assert copies(CROWD) == dict.fromkeys(range(2, CROWD + 1), 1) and copies(CROWD - 1) == {}


def test_a_held_out_image_of_a_crowd_is_a_copy_of_what_is_learned_from() -> None:
    shown = Shown(known_in_part(3 * CROWD, CROWD), [7])
    assert shown.copied_by(5) == 7 and shown.copied_by(1000) is None
    assert Shown(known_in_part(3 * CROWD, CROWD), [7, 3 * CROWD]).copied_by(5) == 3 * CROWD, "what is known goes first"


def test_all_that_are_looked_for_make_a_crowd() -> None:
    assert CROWD == CHECKS


def test_held_out_places_stay_where_chance_put_them() -> None:
    twins = twins_of({1, 2, 3}, {4, 5})
    placed = copies_last(queue_of(10, 2, 6), twins, {})
    assert [at for at, one in enumerate(placed, start=1) if one.key in (2, 6)] == [2, 6]
    assert [one.key for one in placed] == [1, 2, 4, 7, 8, 6, 9, 10, 3, 5]
    assert {one.key: one.copy_of for one in placed}[2] is None, "looks do not move a validation image"


def test_held_out_images_at_either_end_have_scores_of_the_queue_and_its_order() -> None:
    queue = [Waiting(1, 0.5, True), Waiting(2, 0.001), Waiting(3, 0.5), Waiting(4, 0.5, True)]
    first, *_, last = (one.score for one in copies_last(queue, twins_of({2, 3}), {}))
    assert 0 < first < 0.001 and 1 - TAIL < last < 1


def test_a_training_copy_of_a_held_out_image_before_it_waits_so_that_this_one_keeps_its_say() -> None:
    placed = copies_last(queue_of(3, 1), twins_of({1, 2}), {})
    assert [(one.key, one.copy_of) for one in placed] == [(1, None), (3, None), (2, 1)]
    assert copies_among(queue_of(2), twins_of({2, 90}), {90: False}) == {2: 90}


def test_a_held_out_copy_of_what_is_learned_from_comes_after_the_other_held_out_ones() -> None:
    placed = copies_last(queue_of(6, 1, 4), twins_of({1, 90}, {4, 91}), {90: True, 91: False})
    assert [(one.key, one.copy_of) for one in placed if one.key in (1, 4)] == [(4, None), (1, 90)]
    assert [one.key in (1, 4) for one in placed] == [True, False, False, True, False, False]
    scores = [one.score for one in placed]
    assert scores == sorted(scores)


def test_what_comes_late_stays_below_the_copies() -> None:
    assert below_tail(0.5) == 0.5 and below_tail(1.0) == pytest.approx(1 - TAIL)
    assert below_tail(0.985) < below_tail(0.99) < below_tail(1.0)
