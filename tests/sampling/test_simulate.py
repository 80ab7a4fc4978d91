from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from sampling.ranking import Candidate, RankingConfig
from sampling.simulate import Plan, Step, simulate

IMAGES = tuple(range(100, 120))


class Counter:
    """Learns the number of images; image 119 is the least certain, 100 the most."""

    def __init__(self) -> None:
        self.lessons: list[tuple[int, tuple[int, ...]]] = []
        self.asked: list[set[int]] = []

    def learn(self, images: Sequence[int], loop: int) -> float:
        self.lessons.append((loop, tuple(images)))
        return len(images) / 100

    def candidates(self, images: Sequence[int]) -> list[Candidate]:
        self.asked.append(set(images))
        return [Candidate(image, (120 - image) / 20) for image in images]


def plan(strategy: str = "uncertainty", loops: int = 3, seed: int = 1) -> Plan:
    return Plan(IMAGES, (100, 101), (4,) * loops, RankingConfig(strategy), seed)


def test_each_loop_adds_what_the_strategy_puts_first() -> None:
    learner = Counter()
    steps = list(simulate(learner, plan(loops=2)))
    assert [step.images[2:] for step in steps] == [(), (119, 118, 117, 116), tuple(range(119, 111, -1))]
    assert [step.value for step in steps] == [0.02, 0.06, 0.1]
    assert [step.loop for step in steps] == [0, 1, 2] == [loop for loop, _ in learner.lessons]


def test_each_loop_may_choose_another_number_of_images() -> None:
    unequal = replace(plan(), batches=(1, 5, 2))
    steps = list(simulate(Counter(), unequal))
    assert [len(step.images) for step in steps] == [2, 3, 8, 10]
    assert list(simulate(Counter(), unequal, steps[:2])) == steps[2:]


def test_near_copies_of_what_is_annotated_or_chosen_before_are_chosen_last() -> None:
    pairs = [(119, 100), (118, 117), (116, 115)]
    twins = {one: {other} for pair in pairs for one, other in (pair, pair[::-1])}
    chosen = [step.images for step in simulate(Counter(), replace(plan(loops=4), twins=twins))]
    assert chosen[2][2:] == (118, 116, 114, 113, 112, 111, 110, 109), "119 is a copy of a first image"
    assert chosen[4][-1] == 119 and not {117, 115} & set(chosen[4]), "of the copies the first one when all else is gone"


def test_only_images_that_are_not_annotated_yet_are_asked_about() -> None:
    learner = Counter()
    list(simulate(learner, plan(loops=2)))
    assert learner.asked == [set(IMAGES) - {100, 101}, set(range(102, 116))]


def test_no_image_is_scored_where_chance_alone_decides() -> None:
    learner = Counter()
    steps = list(simulate(learner, plan("random", loops=2)))
    assert learner.asked == [] and len(set(steps[-1].images)) == 10


def test_a_stopped_run_goes_on_as_if_nothing_had_been() -> None:
    for strategy in ("uncertainty", "random", "stratified"):
        whole = list(simulate(Counter(), plan(strategy)))
        learner = Counter()
        rest = list(simulate(learner, plan(strategy), whole[:2]))
        assert whole[:2] + rest == whole
        assert [loop for loop, _ in learner.lessons] == [2, 3]


def test_a_finished_run_has_nothing_left_to_do() -> None:
    learner = Counter()
    assert list(simulate(learner, plan(loops=1), [Step(0, (100, 101), 0.1), Step(1, IMAGES[:6], 0.2)])) == []
    assert learner.lessons == []


def test_chance_follows_the_seed() -> None:
    chosen = [list(simulate(Counter(), plan("random", seed=seed)))[-1].images for seed in (1, 1, 2)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_plans_that_cannot_be_played_are_refused() -> None:
    with pytest.raises(ValueError, match="5 loops need 22 images, there are 20"):
        plan(loops=5)
    with pytest.raises(ValueError, match="initial images must be some of the images, got 1 others"):
        Plan(IMAGES, (7,), (20,), RankingConfig(), 1)
    with pytest.raises(ValueError, match="initial images must be some"):
        Plan(IMAGES, (), (20,), RankingConfig(), 1)
