"""The order in which images are annotated, with a score for each place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sampling.coverage import USUAL, Known, ObjectsOfImage, Parts
from sampling.strategies import BY_CERTAINTY, BY_CHANCE, STRATEGIES, WITHOUT_A_LOOK, Pool

WITHOUT_DETECTIONS = ("median", "first", "last")


@dataclass(frozen=True)
class Candidate:
    """An image that could be annotated next.

    certainty     0..1, NaN where nothing was found
    is_held_out   a validation image, whose place must not depend on what the model thinks of it
    class_counts  objects of each class, as far as the model sees them; as many numbers for every candidate
    embedding     what the backbone sees in the image; as many numbers for every candidate
    objects       what seems to be an object in it, where a strategy looks at that
    """

    key: int
    certainty: float
    is_held_out: bool = False
    class_counts: Sequence[float] = ()
    embedding: Sequence[float] | np.ndarray = ()
    objects: ObjectsOfImage | None = None


@dataclass(frozen=True)
class Place:
    """A candidate's place in the queue (0 first) and its score: 0..1, never falling along the queue.

    is_control: it was put there at random, whatever the strategy.
    """

    key: int
    certainty: float | None
    place: int
    score: float
    is_control: bool = False


@dataclass(frozen=True)
class RankingConfig:
    """How a queue is made.

    strategy            a name of STRATEGIES
    without_detections  where images without detections go: "median", "first" or "last"
    random_share        share of the queue that is chosen at random, as a control group
    batch               images that are annotated until the next round
    rounds              rounds that are planned, for strategies that change from one to the next
    parts               what `coverage` weighs objects by
    """

    strategy: str = "uncertainty"
    without_detections: str = "median"
    random_share: float = 0.0
    batch: int = 20
    rounds: int = 10
    parts: Parts = USUAL

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, got {self.strategy!r}")
        if self.without_detections not in WITHOUT_DETECTIONS:
            raise ValueError(
                f"without_detections must be one of {', '.join(WITHOUT_DETECTIONS)}, got {self.without_detections!r}"
            )
        if not 0 <= self.random_share <= 1:
            raise ValueError(f"random_share must lie in 0..1, got {self.random_share}")
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, got {self.batch}")
        if self.rounds < 1:
            raise ValueError(f"rounds must be at least 1, got {self.rounds}")


Slot = tuple[Candidate, float | None]
"""A candidate in queue order, and its score where it has one yet."""


class Scored(Protocol):
    """Anything that has a queue score."""

    @property
    def score(self) -> float:
        """0..1, lowest first."""
        ...

    @property
    def certainty(self) -> float | None:
        """0..1, None where nothing was found."""
        ...


@dataclass(frozen=True, eq=False)
class Moment:
    """When a queue is made.

    round_number   from 1, for strategies that change from round to round
    hold_out_last  whether the held-out candidates all come at the end, as enough of them are annotated
    known          what is annotated, where a strategy looks at that
    """

    round_number: int = 1
    hold_out_last: bool = False
    known: Known | None = None


FIRST_ROUND = Moment()


def rank(
    candidates: Sequence[Candidate], config: RankingConfig, seed: int, moment: Moment = FIRST_ROUND
) -> tuple[Place, ...]:
    """The queue, first to be served first; does not depend on the order of the candidates.

    Held-out candidates (validation images) and the control group come in random order, mixed in evenly at their
    share, each scored between its neighbours.
    """
    repeated = sorted(key for key, times in Counter(c.key for c in candidates).items() if times > 1)
    if repeated:
        raise ValueError(f"every candidate needs its own key, got {len(repeated)} more than once: {repeated[:5]}")
    rng = np.random.default_rng(seed)
    ordered = sorted(candidates, key=lambda c: c.key)
    held_out = _shuffled([c for c in ordered if c.is_held_out], rng)
    others = [c for c in ordered if not c.is_held_out]
    drawn = set(rng.permutation(len(others))[: int(config.random_share * len(others) + 0.5)].tolist())
    control = _shuffled([c for i, c in enumerate(others) if i in drawn], rng)
    chosen = [c for i, c in enumerate(others) if i not in drawn]
    scores = _scores(_pool(chosen, config, moment), config, rng)
    order = np.lexsort((rng.permutation(len(chosen)), scores))
    queue: list[Slot] = _mix([(chosen[i], float(scores[i])) for i in order], control)
    placed = [*queue, *((c, None) for c in held_out)] if moment.hold_out_last else _mix(queue, held_out)
    is_control = {c.key for c in control}
    return tuple(
        Place(c.key, None if np.isnan(c.certainty) else c.certainty, place, score, c.key in is_control)
        for place, (c, score) in enumerate(_fill(placed))
    )


def score_for(certainty: float, queue: Sequence[Scored], config: RankingConfig) -> float:
    """Score of an image that enters a ranked queue later.

    Without a detection it goes where the setting says, or last where the strategy does. Where the score is the
    certainty, that; where chance decides, the middle; else behind the share of the queue that is less certain.
    """
    middle = _middle([place.score for place in queue])
    if np.isnan(certainty) and config.strategy not in WITHOUT_A_LOOK:
        setting = "last" if config.strategy == "random_foreground" else config.without_detections
        return {"median": middle, "first": 0.0, "last": 1.0}[setting]
    if config.strategy in BY_CHANCE:
        return middle
    if config.strategy in BY_CERTAINTY:
        pool = Pool(np.array([certainty]), np.zeros((1, 0)), np.zeros((1, 0)))
        return float(np.clip(STRATEGIES[config.strategy](pool, np.random.default_rng(0))[0], 0, 1))
    known = np.array([place.certainty for place in queue if place.certainty is not None])
    return float(np.quantile([place.score for place in queue], (known < certainty).mean())) if len(known) else middle


def _middle(scores: Sequence[float]) -> float:
    return float(np.median(scores)) if scores else 0.5


def _shuffled(candidates: Sequence[Candidate], rng: np.random.Generator) -> list[Candidate]:
    return [candidates[i] for i in rng.permutation(len(candidates))]


def _pool(candidates: Sequence[Candidate], config: RankingConfig, moment: Moment) -> Pool:
    def table(rows: Sequence[Sequence[float] | np.ndarray]) -> np.ndarray:
        return np.array(rows, np.float32).reshape(len(rows), -1 if rows else 0)

    return Pool(
        certainties=np.array([c.certainty for c in candidates], float),
        class_counts=table([c.class_counts for c in candidates]),
        embeddings=table([c.embedding for c in candidates]),
        batch=config.batch,
        round_number=moment.round_number,
        rounds=config.rounds,
        objects=_objects(candidates),
        known=moment.known,
        parts=config.parts,
    )


def _objects(candidates: Sequence[Candidate]) -> list[ObjectsOfImage] | None:
    """None unless they are known of every candidate."""
    found = [c.objects for c in candidates if c.objects is not None]
    return found if len(found) == len(candidates) else None


def _scores(pool: Pool, config: RankingConfig, rng: np.random.Generator) -> np.ndarray:
    """Finite scores (n,) in 0..1; images without detections at their configured place."""
    scores = np.clip(STRATEGIES[config.strategy](pool, rng), 0, 1)
    found = scores[~np.isnan(scores)]
    place = {"median": _middle(found.tolist()), "first": 0.0, "last": 1.0}[config.without_detections]
    return np.where(np.isnan(scores), place, scores)


def _mix(queue: list[Slot], extra: list[Candidate]) -> list[Slot]:
    """Insert the extra candidates evenly, without a score yet."""
    total = len(queue) + len(extra)
    at = {int((i + 0.5) * total / len(extra)): c for i, c in enumerate(extra)}
    rest = iter(queue)
    return [(at[index], None) if index in at else next(rest) for index in range(total)]


def _fill(slots: list[Slot]) -> list[tuple[Candidate, float]]:
    """Give each slot without a score one between its neighbours', evenly spaced; the queue lies between 0 and 1."""
    known = [(i, s) for i, (_, s) in enumerate(slots) if s is not None]
    positions = [-1, *(i for i, _ in known), len(slots)]
    values = [0.0, *(s for _, s in known), 1.0]
    filled = np.interp(np.arange(len(slots)), positions, values)
    return [(c, float(filled[i]) if s is None else s) for i, (c, s) in enumerate(slots)]
