"""Near copies in a queue: what is annotated, or comes before, once more; it goes to the end, and is never dropped.

Held-out images (validation) share the queue's places at random, and those places stay theirs. Which of them comes when
must not depend on what a model or a comparison sees in it, with one exception: a near copy of an image that is
annotated for training is left out of evaluation whenever it is annotated, so it comes last among them. A training image
that is a near copy of a held-out one before it goes to the end too: once it were annotated, the other would be lost
for evaluation.

Of an image with very many near copies, such as frames of a camera that stands still, only the nearest CROWD are known.
So its near copies count as near copies of one another, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

TAIL = 0.01
"""Share of the scores 0..1 that near copies have for themselves, at the upper end."""

CROWD = 60
"""An image with so many near copies may have more of them that were not looked for."""

Twins = Mapping[int, Collection[int]]
"""Near copies of each image that has any, by their keys."""


@dataclass(frozen=True)
class Waiting:
    """An image in a queue and its score, 0..1; is_held_out: it is not for training."""

    key: int
    score: float
    is_held_out: bool = False


@dataclass(frozen=True)
class Placed:
    """An image's new score, 0..1, never falling along the queue, and which image it is a near copy of, if any."""

    key: int
    score: float
    copy_of: int | None


def copies_last(queue: Sequence[Waiting], twins: Twins, annotated: Mapping[int, bool]) -> tuple[Placed, ...]:
    """The queue with its near copies at the end, otherwise in its order.

    `annotated` says of each annotated image whether it is for training.
    """
    copies = copies_among(queue, twins, annotated)
    if not copies:
        return tuple(Placed(one.key, one.score, None) for one in queue)
    lines = {kind: iter(_parted([one for one in queue if one.is_held_out == kind], copies)) for kind in (False, True)}
    slots = [next(lines[one.is_held_out]) for one in queue]
    last = [one.key for one in slots if one.key in copies and not one.is_held_out]
    tail = {key: 1 - TAIL + TAIL * (at + 1) / (len(last) + 1) for at, key in enumerate(last)}
    known = [(i, tail.get(one.key, below_tail(one.score))) for i, one in enumerate(slots) if not one.is_held_out]
    at = [-1, *(i for i, _ in known), len(slots)]
    scores = np.interp(np.arange(len(slots)), at, [0.0, *(score for _, score in known), 1.0])
    return tuple(Placed(one.key, float(score), copies.get(one.key)) for one, score in zip(slots, scores, strict=True))


class Shown:
    """Images that are annotated, or come before: of which others may be near copies."""

    def __init__(self, twins: Twins, keys: Iterable[int] = ()) -> None:
        self._twins, self._keys = twins, set[int]()
        self._around: dict[int, int] = {}  # of what stands in a crowd, one that is shown and its near copy
        for key in keys:
            self.add(key)

    def add(self, key: int) -> None:
        """Show one more."""
        self._keys.add(key)
        for twin in self._twins.get(key, ()):
            if len(self._twins.get(twin, ())) >= CROWD:
                self._around.setdefault(twin, key)

    def copied_by(self, key: int) -> int | None:
        """Which of those that are shown another image is a near copy of; None of none."""
        near = self._twins.get(key, ())
        known = [twin for twin in near if twin in self._keys]
        return min(known or [self._around[twin] for twin in near if twin in self._around], default=None)


def copies_among(queue: Iterable[Waiting], twins: Twins, annotated: Mapping[int, bool]) -> dict[int, int]:
    """The near copies in a queue, each with an image that is annotated, or comes before it and is none itself."""
    found: dict[int, int] = {}
    before = Shown(twins, annotated)
    learned = Shown(twins, (key for key, is_training in annotated.items() if is_training))
    for one in queue:
        copied = (learned if one.is_held_out else before).copied_by(one.key)
        if copied is None:
            before.add(one.key)
        else:
            found[one.key] = copied
    return found


def below_tail(score: float) -> float:
    """A score 0..1 below those of near copies; up to 1 - 2 * TAIL it stays what it is."""
    start = 1 - 2 * TAIL
    return score if score <= start else start + (score - start) / 2


def _parted(line: Sequence[Waiting], copies: Mapping[int, int]) -> list[Waiting]:
    return sorted(line, key=lambda one: one.key in copies)
