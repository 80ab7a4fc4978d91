from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampling.coverage import Known, ObjectsOfImage
from sampling.ranking import WITHOUT_DETECTIONS, Candidate, Moment, Place, RankingConfig, rank, score_for
from sampling.strategies import STRATEGIES

NAN = float("nan")
DEFAULT = RankingConfig()


def candidates(*certainties: float) -> list[Candidate]:
    return [Candidate(key, certainty) for key, certainty in enumerate(certainties)]


def keys(queue: Sequence[Place]) -> list[int]:
    return [place.key for place in queue]


def scores(queue: Sequence[Place]) -> list[float]:
    return [place.score for place in queue]


@st.composite
def some_candidates(draw: st.DrawFn) -> list[Candidate]:
    certainty = st.one_of(st.just(NAN), st.integers(0, 20).map(lambda step: step / 20))
    rows = draw(st.lists(st.tuples(certainty, st.booleans()), max_size=25))
    return [Candidate(key, certainty, held_out) for key, (certainty, held_out) in enumerate(rows)]


@settings(max_examples=200, deadline=None)
@given(
    some_candidates(),
    st.sampled_from(sorted(STRATEGIES)),
    st.sampled_from(WITHOUT_DETECTIONS),
    st.booleans(),
    st.randoms(),
)
def test_every_queue_keeps_its_promises(
    given: list[Candidate], strategy: str, without_detections: str, hold_out_last: bool, random: Any
) -> None:
    config = RankingConfig(strategy, without_detections)
    queue = rank(given, config, 5, Moment(hold_out_last=hold_out_last))

    assert sorted(keys(queue)) == [c.key for c in given], "everyone is in it once"
    assert [place.place for place in queue] == list(range(len(given)))
    assert np.isfinite(scores(queue)).all()
    assert scores(queue) == sorted(scores(queue))
    assert all(0 <= score <= 1 for score in scores(queue))

    shuffled = random.sample(given, len(given))
    assert rank(shuffled, config, 5, Moment(hold_out_last=hold_out_last)) == queue, "the order given does not matter"

    held_out = {c.key for c in given if c.is_held_out}
    others = [place for place in queue if place.key not in held_out]
    for place in queue:
        before = max((other.score for other in others if other.place < place.place), default=0.0)
        after = min((other.score for other in others if other.place > place.place), default=1.0)
        if place.key in held_out and before < after:
            assert before < place.score < after, "strictly between neighbours that differ"
    if hold_out_last:
        assert {place.key for place in queue[len(others) :]} == held_out


def test_the_least_certain_comes_first_with_its_certainty_as_score() -> None:
    assert rank(candidates(0.9, 0.1, 0.5), DEFAULT, 0) == (
        Place(key=1, certainty=0.1, place=0, score=0.1),
        Place(key=2, certainty=0.5, place=1, score=0.5),
        Place(key=0, certainty=0.9, place=2, score=0.9),
    )


def test_the_certainty_strategy_turns_the_queue_round() -> None:
    queue = rank(candidates(0.9, 0.1, 0.5), RankingConfig("certainty"), 0)
    assert keys(queue) == [0, 2, 1]
    assert scores(queue) == pytest.approx([0.1, 0.5, 0.9])
    assert queue[0].certainty == 0.9


def test_random_follows_the_seed_and_not_the_certainty() -> None:
    given = candidates(*np.linspace(0, 1, 30))
    orders = [keys(rank(given, RankingConfig("random"), seed)) for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != list(range(30))


def test_equal_certainties_are_not_served_in_the_order_of_import() -> None:
    assert keys(rank(candidates(*[0.5] * 30), DEFAULT, 1)) != list(range(30))


@pytest.mark.parametrize(("setting", "score"), [("median", 0.4), ("first", 0.0), ("last", 1.0)])
def test_images_without_detections_go_where_the_setting_says(setting: str, score: float) -> None:
    queue = rank(candidates(0.2, 0.4, 0.9, NAN), RankingConfig(without_detections=setting), 0)
    (blank,) = [place for place in queue if place.key == 3]
    assert (blank.certainty, blank.score) == (None, score)


def test_images_without_detections_alone_have_the_middle_score() -> None:
    assert scores(rank(candidates(NAN, NAN), DEFAULT, 0)) == [0.5, 0.5]


def test_held_out_images_are_mixed_in_at_their_share() -> None:
    given = candidates(*np.linspace(0.05, 0.95, 80)) + [Candidate(100 + i, NAN, is_held_out=True) for i in range(20)]
    queue = rank(given, DEFAULT, 3)
    for start in range(0, 100, 5):
        assert sum(place.key >= 100 for place in queue[start : start + 5]) == 1
    assert all(a < b for a, b in zip(scores(queue), scores(queue)[1:], strict=False))


def test_a_single_held_out_image_sits_in_the_middle() -> None:
    queue = rank([*candidates(0.1, 0.2, 0.4, 0.8), Candidate(9, NAN, is_held_out=True)], DEFAULT, 0)
    assert keys(queue) == [0, 1, 9, 2, 3]
    assert queue[2].score == pytest.approx(0.3)


def test_the_certainty_of_held_out_images_does_not_place_them() -> None:
    def order(certainties: np.ndarray) -> list[int]:
        held_out = [Candidate(100 + i, float(c), is_held_out=True) for i, c in enumerate(certainties)]
        return keys(rank(candidates(0.1, 0.2, 0.3) + held_out, DEFAULT, 3))

    assert order(np.linspace(0, 1, 9)) == order(np.linspace(1, 0, 9))


def test_held_out_images_keep_their_certainty() -> None:
    queue = rank([Candidate(1, 0.7, is_held_out=True), Candidate(2, 0.1)], DEFAULT, 0)
    assert {place.key: place.certainty for place in queue} == {1: 0.7, 2: 0.1}


def test_the_order_of_held_out_images_follows_the_seed() -> None:
    given = [Candidate(i, 0.5, is_held_out=True) for i in range(30)]
    assert keys(rank(given, DEFAULT, 1)) == keys(rank(given, DEFAULT, 1)) != keys(rank(given, DEFAULT, 2))


def test_held_out_images_alone_ascend_within_0_to_1() -> None:
    found = scores(rank([Candidate(i, NAN, is_held_out=True) for i in range(3)], DEFAULT, 0))
    assert found == [0.25, 0.5, 0.75]


def test_held_out_images_can_all_go_last() -> None:
    given = [*candidates(0.2, 0.6), Candidate(8, 0.0, is_held_out=True), Candidate(9, 0.1, is_held_out=True)]
    queue = rank(given, DEFAULT, 0, Moment(hold_out_last=True))
    assert keys(queue)[:2] == [0, 1] and set(keys(queue)[2:]) == {8, 9}
    assert 0.6 < queue[2].score < queue[3].score <= 1


def test_nobody_makes_an_empty_queue() -> None:
    assert rank([], DEFAULT, 0) == rank([], DEFAULT, 0, Moment(hold_out_last=True)) == ()


def test_repeated_keys_are_refused() -> None:
    with pytest.raises(ValueError, match=r"needs its own key, got 1 more than once: \[7\]"):
        rank([Candidate(7, 0.1), Candidate(7, 0.2), Candidate(8, 0.3)], DEFAULT, 0)


def test_bad_settings_are_refused_at_birth() -> None:
    with pytest.raises(ValueError, match=r"strategy must be one of uncertainty, .*, coverage, got 'best'"):
        RankingConfig(strategy="best")
    with pytest.raises(ValueError, match=r"random_share must lie in 0..1, got 1.2"):
        RankingConfig(random_share=1.2)
    with pytest.raises(ValueError, match="rounds must be at least 1, got 0"):
        RankingConfig(rounds=0)
    with pytest.raises(ValueError, match="batch must be at least 1, got 0"):
        RankingConfig(batch=0)
    with pytest.raises(ValueError, match="without_detections must be one of median, first, last, got 'middle'"):
        RankingConfig(without_detections="middle")


@pytest.mark.parametrize(("strategy", "score"), [("uncertainty", 0.9), ("certainty", 0.1), ("random", 1 / 3)])
def test_a_late_image_gets_its_own_score_or_the_middle(strategy: str, score: float) -> None:
    config = RankingConfig(strategy)
    queue = rank(candidates(0.2, 0.5, 0.6), config, 0)
    assert score_for(0.9, queue, config) == pytest.approx(score)


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "random_foreground"])
def test_a_late_image_without_detections_goes_to_the_middle(strategy: str) -> None:
    config = RankingConfig(strategy)
    queue = rank(candidates(0.2, 0.5, 0.6), config, 0)
    assert score_for(NAN, queue, config) == queue[1].score
    assert score_for(NAN, (), config) == 0.5


@pytest.mark.parametrize(("setting", "score"), [("first", 0.0), ("last", 1.0)])
def test_a_late_image_without_detections_follows_the_setting(setting: str, score: float) -> None:
    assert score_for(NAN, rank(candidates(0.2, 0.5), DEFAULT, 0), RankingConfig(without_detections=setting)) == score


@pytest.mark.parametrize("setting", ["first", "last"])
def test_a_late_image_that_chance_places_goes_to_the_middle_whatever_the_setting(setting: str) -> None:
    config = RankingConfig("random", without_detections=setting)
    queue = rank(candidates(NAN, NAN, NAN), config, 0)
    assert score_for(NAN, queue, config) == queue[1].score


def test_a_late_image_goes_behind_the_less_certain_ones_where_the_score_is_a_place() -> None:
    config = RankingConfig("class_aware")
    queue = rank([Candidate(i, c, False, (1.0,)) for i, c in enumerate((0.1, 0.3, 0.5, 0.9))], config, 0)
    assert queue[2].score < score_for(0.6, queue, config) < queue[3].score
    assert score_for(0.05, queue, config) == queue[0].score and score_for(1.0, queue, config) == queue[3].score
    blank = Candidate(4, NAN, False, (0.0,))
    assert score_for(0.05, rank([blank], config, 0), config) == 0.5, "nothing to compare with"
    assert score_for(0.05, (*queue, *rank([blank], config, 0)), config) == queue[0].score


def test_coverage_goes_by_the_certainty_where_the_objects_of_one_image_are_not_known() -> None:
    objects = ObjectsOfImage(np.ones((1, 2)), np.ones((1, 1)), np.ones(1))
    some = [Candidate(0, 0.5, objects=objects), Candidate(1, 0.2), Candidate(2, 0.9, objects=objects)]
    queue = rank(some, RankingConfig("coverage"), 0, Moment(known=Known(np.zeros((0, 2)), 0.5)))
    assert [(place.key, place.score) for place in queue] == [(1, 0.2), (0, 0.5), (2, 0.9)]


def test_a_late_image_finds_its_place_where_coverage_had_no_objects_to_look_at() -> None:
    """The queue's scores are certainties then, all of them high."""
    config = RankingConfig("coverage")
    queue = rank(candidates(0.8, 0.85, 0.9, 0.95), config, 0)
    assert queue[1].score < score_for(0.87, queue, config) < queue[2].score


@pytest.mark.parametrize("setting", ["first", "last"])
def test_a_late_image_without_detections_follows_the_setting_where_the_classes_take_turns_by_chance(
    setting: str,
) -> None:
    config = RankingConfig("class_turns", without_detections=setting)
    queue = rank([Candidate(i, c, False, (1.0,)) for i, c in enumerate((0.1, NAN, 0.5, 0.9))], config, 0)
    assert score_for(NAN, queue, config) == next(place.score for place in queue if place.certainty is None)
    assert score_for(0.3, queue, config) == np.median([place.score for place in queue])


def test_a_late_image_without_detections_comes_last_where_the_others_are_drawn_before_such() -> None:
    config = RankingConfig("random_foreground")
    queue = rank(candidates(0.1, NAN, 0.5, 0.9), config, 0)
    assert score_for(NAN, queue, config) >= queue[3].score > score_for(0.3, queue, config)


def test_a_share_of_the_queue_is_drawn_at_random_and_mixed_in_evenly() -> None:
    queue = rank(candidates(*np.linspace(0, 1, 100)), RankingConfig(random_share=0.2), 3)
    control = [place for place in queue if place.is_control]
    assert len(control) == 20
    for start in range(0, 100, 5):
        assert sum(place.is_control for place in queue[start : start + 5]) == 1
    certainties = [place.certainty for place in control]
    assert certainties != sorted(certainties), "their certainty does not place them"
    assert [p.certainty for p in queue if not p.is_control] == sorted(p.certainty for p in queue if not p.is_control)
    assert scores(queue) == sorted(scores(queue))


def test_a_queue_without_a_control_group_says_so() -> None:
    assert not any(place.is_control for place in rank(candidates(0.1, 0.2), DEFAULT, 0))
