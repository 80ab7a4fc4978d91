"""Strategies: from what is known of the images to queue scores, lowest served first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sampling.coverage import USUAL, Known, ObjectsOfImage, Parts, cover

SHORTLIST = 3
"""How many times more images than are annotated until the next round `diverse` looks at."""

HINT = 0.1
"""How much of an object of a class an image has to show to be a candidate for that class."""

SHARPNESS = (1.0, 100.0)
"""Inverse scale of `stratified`'s noise in the first round and in the last one planned, where it stays."""

BATCHES = 5
"""Batches that `coverage` chooses one by one; what follows is ordered by what each image would bring alone."""


@dataclass(frozen=True, eq=False)
class Pool:
    """What is known of the images to choose from.

    certainties   (n,) 0..1, NaN where nothing was found
    class_counts  (n, c) objects of each class, as far as the model sees them
    embeddings    (n, d) what the backbone sees in the image as a whole
    batch         images that are annotated until the next round
    round_number  from 1
    rounds        that are planned, for strategies that change from one to the next
    objects       of each image, and what is `known` already; without them `coverage` is `uncertainty`
    parts         what `coverage` weighs them by
    """

    certainties: np.ndarray
    class_counts: np.ndarray
    embeddings: np.ndarray
    batch: int = 20
    round_number: int = 1
    rounds: int = 10
    objects: Sequence[ObjectsOfImage] | None = None
    known: Known | None = None
    parts: Parts = USUAL

    @property
    def progress(self) -> float:
        """Share of the planned rounds that is over, 0..1."""
        return min(1.0, (self.round_number - 1) / max(1, self.rounds - 1))

    def __len__(self) -> int:
        return len(self.certainties)

    @property
    def uncertainties(self) -> np.ndarray:
        """(n,) 1 - certainty, 0 where nothing was found."""
        return np.nan_to_num(1 - self.certainties, nan=0.0)


Strategy = Callable[[Pool, np.random.Generator], np.ndarray]
"""Pool of n images -> scores (n,) in 0..1; NaN where nothing was found and the strategy has no place for it."""


def uncertainty(pool: Pool, rng: np.random.Generator) -> np.ndarray:
    """The least certain first: MaskAL's choice. The score is the certainty itself."""
    return pool.certainties.copy()


def certainty(pool: Pool, rng: np.random.Generator) -> np.ndarray:
    """The most certain first: for comparison."""
    return 1 - pool.certainties


def random(pool: Pool, rng: np.random.Generator) -> np.ndarray:
    """In random order: the baseline."""
    return rng.permutation(len(pool)) / max(len(pool), 1)


def random_foreground(pool: Pool, rng: np.random.Generator) -> np.ndarray:
    """In random order, images in which the model finds something before the others: the stronger baseline."""
    order = np.lexsort((rng.permutation(len(pool)), np.isnan(pool.certainties)))
    return _places(order, len(pool))


def class_turns(pool: Pool, rng: np.random.Generator) -> np.ndarray:
    """The classes take turns, each with any image that seems to show it: the baseline that knows the classes."""
    shown = [np.where(column >= HINT, 0.0, -np.inf) for column in pool.class_counts.T]
    by_class = [_best_first(values, rng) for values in shown]
    return _where_found(pool, _take_turns(by_class, _best_first(np.zeros(len(pool)), rng)))


def class_aware(pool: Pool, rng: np.random.Generator) -> np.ndarray:
    """The classes take turns, each with the least certain image among those that seem to show it."""
    by_class = [_best_first(promise, rng) for promise in _promises(pool)]
    return _where_found(pool, _take_turns(by_class, _best_first(pool.uncertainties, rng)))


def diverse(pool: Pool, rng: np.random.Generator) -> np.ndarray:
    """Batch by batch, from the least certain images those that look most different from one another.

    Uncertainty makes the shortlist, farthest-first traversal of the embeddings chooses from it (the k-center
    greedy of Sener and Savarese 2018).
    """
    waiting = _best_first(pool.uncertainties, rng)
    order: list[int] = []
    while waiting:
        shortlist, beyond = np.array(waiting[: SHORTLIST * pool.batch]), waiting[SHORTLIST * pool.batch :]
        chosen = farthest_first(pool.embeddings[shortlist], pool.batch)
        order += shortlist[chosen].tolist()
        waiting = [*np.delete(shortlist, chosen).tolist(), *beyond]
    return _where_found(pool, order)


def stratified(pool: Pool, rng: np.random.Generator) -> np.ndarray:
    """Noisy uncertainty, stratified by class: ClaSP PE (arXiv 2601.13677) for the objects of whole images.

    Two thirds by class in turns, one third whatever the class; to the logarithm of the uncertainty comes Gumbel
    noise, much of it in the first rounds (diversity) and exponentially less up to the last one planned (exploitation).
    """
    first, last = SHARPNESS
    noise = rng.gumbel(size=len(pool)) / (first * (last / first) ** pool.progress)
    overall = _best_first(_log(pool.uncertainties) + noise, rng)
    by_class = [_best_first(promise + noise, rng) for promise in _promises(pool)]
    turns: list[list[int]] = []
    for start in range(0, len(by_class), 2):
        turns += [*by_class[start : start + 2], overall]
    return _where_found(pool, _take_turns(turns, _best_first(pool.uncertainties, rng)))


def coverage(pool: Pool, rng: np.random.Generator) -> np.ndarray:
    """The images that bring the objects of all nearest to what is annotated; see `sampling.coverage`.

    An image has a place if objects of it, or patches, are given, whatever its certainty.
    """
    if pool.objects is None or pool.known is None:
        return uncertainty(pool, rng)
    some = [i for i in rng.permutation(len(pool)) if len(pool.objects[i])]  # equal ones in random order
    first, last = SHARPNESS
    noise = pool.parts.noise * rng.gumbel(size=len(some)) * (first / last) ** pool.progress
    order = cover([pool.objects[i] for i in some], pool.known, pool.parts, BATCHES * pool.batch, noise)
    return _places([some[i] for i in order], len(pool))


def farthest_first(embeddings: np.ndarray, count: int) -> list[int]:
    """Indices of `count` rows (n, d), the first and then always the one farthest from all chosen before it."""
    chosen: list[int] = []
    distances = np.full(len(embeddings), np.inf)
    for _ in range(min(count, len(embeddings))):
        chosen.append(int(np.argmax(distances)))
        distances = np.minimum(distances, ((embeddings - embeddings[chosen[-1]]) ** 2).sum(1))  # (n, d) -> (n,)
        distances[chosen] = -1
    return chosen


def _promises(pool: Pool) -> list[np.ndarray]:
    """For each class (n,): log of the uncertainty as far as an image shows the class, -inf where it hardly does."""
    shown = np.where(pool.class_counts >= HINT, np.minimum(pool.class_counts, 1), 0)  # (n, c)
    return [_log(pool.uncertainties * column) for column in shown.T]


def _log(values: np.ndarray) -> np.ndarray:
    """Logarithm of values (n,) >= 0, -inf for 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(values))


def _best_first(values: np.ndarray, rng: np.random.Generator) -> list[int]:
    """Indices by falling value (n,), equal ones in random order, without those of -inf."""
    order = np.lexsort((rng.permutation(len(values)), -values))
    return [int(i) for i in order if values[i] > -np.inf]


def _take_turns(orders: Sequence[list[int]], everything: list[int]) -> list[int]:
    """One order of everything: the orders in turn give their first that is not yet taken, at last come the others."""
    taken: dict[int, None] = {}
    rest = [iter(order) for order in orders]
    while rest:
        for order in list(rest):
            following = next((i for i in order if i not in taken), None)
            if following is None:
                rest.remove(order)
            else:
                taken[following] = None
    return list(dict.fromkeys([*taken, *everything]))


def _places(order: Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    """Scores (count,) that serve in this order; NaN for those that are not in it."""
    scores = np.full(count, np.nan)
    scores[np.asarray(order, int)] = np.arange(len(order)) / max(len(order), 1)
    return scores


def _where_found(pool: Pool, order: Sequence[int]) -> np.ndarray:
    """Scores that serve in this order, NaN where nothing was found."""
    return _places([i for i in order if not np.isnan(pool.certainties[i])], len(pool))


STRATEGIES: dict[str, Strategy] = {
    "uncertainty": uncertainty,
    "certainty": certainty,
    "random": random,
    "random_foreground": random_foreground,
    "class_turns": class_turns,
    "class_aware": class_aware,
    "diverse": diverse,
    "stratified": stratified,
    "coverage": coverage,
}

BY_CERTAINTY = ("uncertainty", "certainty")
"""Strategies whose score follows from an image's certainty alone."""

BY_CHANCE = ("random", "random_foreground", "class_turns")
"""Strategies that do not look at the certainty."""

BY_OBJECTS = ("coverage",)
"""Strategies that look at the objects of each image."""

BY_SCHEDULE = ("stratified",)
"""Strategies that change over the planned rounds; `coverage` does where it has noise."""

BY_FEATURES = (*BY_OBJECTS, "diverse")
"""Strategies that compare what a backbone sees in the images, best one that training does not move."""

WITHOUT_A_LOOK = ("random",)
"""Strategies for which no image has to be scored."""
