"""The order in which images are annotated, with a score for each place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sampling.strategies import STRATEGIES

WITHOUT_DETECTIONS = ("median", "first", "last")


@dataclass(frozen=True)
class Candidate:
    """An image that could be annotated next; certainty is NaN where nothing was found."""

    key: int
    certainty: float
    is_held_out: bool = False


@dataclass(frozen=True)
class Place:
    """A candidate's place in the queue (0 first) and its score: 0..1, never falling along the queue."""

    key: int
    certainty: float | None
    place: int
    score: float


@dataclass(frozen=True)
class RankingConfig:
    """A strategy's name, and where images without detections go: "median", "first" or "last"."""

    strategy: str = "uncertainty"
    without_detections: str = "median"

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, got {self.strategy!r}")
        if self.without_detections not in WITHOUT_DETECTIONS:
            raise ValueError(
                f"without_detections must be one of {', '.join(WITHOUT_DETECTIONS)}, got {self.without_detections!r}"
            )


Slot = tuple[Candidate, float | None]
"""A candidate in queue order, and its score where it has one yet."""


class Scored(Protocol):
    """Anything that has a queue score."""

    @property
    def score(self) -> float:
        """0..1, lowest first."""
        ...


def rank(
    candidates: Sequence[Candidate], config: RankingConfig, seed: int, *, hold_out_last: bool = False
) -> tuple[Place, ...]:
    """The queue, first to be served first; does not depend on the order of the candidates.

    Held-out candidates (validation images) come in random order, mixed in evenly at their share, each
    scored between its neighbours; with `hold_out_last` they all come at the end.
    """
    repeated = sorted(key for key, times in Counter(c.key for c in candidates).items() if times > 1)
    if repeated:
        raise ValueError(f"every candidate needs its own key, got {len(repeated)} more than once: {repeated[:5]}")
    rng = np.random.default_rng(seed)
    ordered = sorted(candidates, key=lambda c: c.key)
    chosen = [c for c in ordered if not c.is_held_out]
    held_out = [c for c in ordered if c.is_held_out]
    scores = _scores(np.array([c.certainty for c in chosen]), config, rng)
    order = np.lexsort((rng.permutation(len(chosen)), scores))
    queue = [(chosen[i], float(scores[i])) for i in order]
    shuffled = [held_out[i] for i in rng.permutation(len(held_out))]
    placed = [*queue, *((c, None) for c in shuffled)] if hold_out_last else _mix(queue, shuffled)
    return tuple(
        Place(c.key, None if np.isnan(c.certainty) else c.certainty, place, score)
        for place, (c, score) in enumerate(_fill(placed))
    )


def score_for(certainty: float, queue: Sequence[Scored], config: RankingConfig) -> float:
    """Score of an image that enters a ranked queue later; NaN certainty, or a random strategy, goes to its middle."""
    scores = STRATEGIES[config.strategy](np.array([certainty]), np.random.default_rng(0))
    if config.strategy == "random" or np.isnan(scores[0]):
        return float(np.median([place.score for place in queue])) if queue else 0.5
    return float(np.clip(scores[0], 0, 1))


def _scores(certainties: np.ndarray, config: RankingConfig, rng: np.random.Generator) -> np.ndarray:
    """Finite scores (n,) in 0..1; images without detections at their configured place."""
    scores = np.clip(STRATEGIES[config.strategy](certainties, rng), 0, 1)
    found = scores[~np.isnan(scores)]
    middle = float(np.median(found)) if len(found) else 0.5
    place = {"median": middle, "first": 0.0, "last": 1.0}[config.without_detections]
    return np.where(np.isnan(scores), place, scores)


def _mix(queue: list[tuple[Candidate, float]], extra: list[Candidate]) -> list[Slot]:
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
