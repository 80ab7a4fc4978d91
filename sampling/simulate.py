"""Active learning played on images whose annotations are all known already."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from sampling.coverage import Known
from sampling.near_copies import Twins, Waiting, copies_last
from sampling.ranking import Candidate, Moment, RankingConfig, rank
from sampling.strategies import BY_OBJECTS, WITHOUT_A_LOOK


class Learner(Protocol):
    """Something that learns from annotated images and says what it thinks of the others."""

    def learn(self, images: Sequence[int], loop: int) -> float:
        """Learn from these images; returns how well the test images are then done, 0..1.

        `loop` is 0 for the initial images and counts the choices made since then.
        """
        ...

    def candidates(self, images: Sequence[int]) -> Iterable[Candidate]:
        """The other images as the learner sees them after its last lesson."""
        ...

    def known(self, images: Sequence[int]) -> Known | None:
        """The objects of the images that it learned from, for strategies that look at objects."""
        ...


@dataclass(frozen=True)
class Plan:
    """One run: from which images to which others.

    images   every image that may be learned from, by its key
    initial  those that are annotated at the beginning
    batches  how many are chosen in each loop
    twins    near copies of images, which are chosen last
    """

    images: tuple[int, ...]
    initial: tuple[int, ...]
    batches: tuple[int, ...]
    ranking: RankingConfig
    seed: int
    twins: Twins = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = set(self.initial) - set(self.images)
        if not self.initial or unknown:
            raise ValueError(f"initial images must be some of the images, got {len(unknown)} others")
        needed = len(self.initial) + sum(self.batches)
        if needed > len(self.images):
            raise ValueError(f"{len(self.batches)} loops need {needed} images, there are {len(self.images)}")


@dataclass(frozen=True)
class Step:
    """What was learned from after so many loops, in the order chosen, and how well the test images were done then."""

    loop: int
    images: tuple[int, ...]
    value: float


def simulate(learner: Learner, plan: Plan, done: Sequence[Step] = ()) -> Iterator[Step]:
    """Play a plan and yield each step as soon as it is done; goes on after the steps `done`, if there are any.

    The learner has to be as it was after the last of them.
    """
    if not done:
        yield (first := Step(0, plan.initial, learner.learn(plan.initial, 0)))
        done = [first]
    last = done[-1]
    for loop in range(last.loop + 1, len(plan.batches) + 1):
        chosen = _choose(learner, plan, last.images, loop)
        images = (*last.images, *chosen)
        last = Step(loop, images, learner.learn(images, loop))
        yield last


def _choose(learner: Learner, plan: Plan, annotated: Collection[int], loop: int) -> tuple[int, ...]:
    taken = set(annotated)
    others = [image for image in plan.images if image not in taken]
    looks = plan.ranking.strategy not in WITHOUT_A_LOOK
    ranking = replace(plan.ranking, batch=plan.batches[loop - 1])
    candidates = list(learner.candidates(others)) if looks else [Candidate(image, math.nan) for image in others]
    seed = int(np.random.SeedSequence([plan.seed, loop]).generate_state(1)[0])
    known = learner.known(tuple(annotated)) if plan.ranking.strategy in BY_OBJECTS else None
    queue = [Waiting(place.key, place.score) for place in rank(candidates, ranking, seed, Moment(loop, known=known))]
    placed = copies_last(queue, plan.twins, dict.fromkeys(annotated, True))
    return tuple(place.key for place in placed[: ranking.batch])
