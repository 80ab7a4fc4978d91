"""Coverage by objects: images are served first whose objects bring those of all open images nearest to what is known.

Greedy facility location over objects, not images (OFDS, arXiv 2412.10032), weighted by their uncertainty as far as that
has proved itself (UHerding, arXiv 2412.20644), the classes in turn (ClaSP PE, arXiv 2601.13677).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sampling.nearness import TINY, Nearness

REFERENCES = 2048
"""Objects that stand for all of them."""

SHORTLIST = 4096
"""Images from which is chosen one by one: those that would bring the most alone."""

KNOWN = 8192
"""Annotated objects that are compared with; beyond them a sample."""

AT_ONCE = 4096
"""Objects whose distances are computed at once."""

LEAST = 1e-3
"""Uncertainty of a sure object: it counts little, and not for nothing."""

PRIOR, PRIOR_IMAGES = 0.5, 10
"""How far uncertainty is trusted before it was tried, and how many images it takes to say otherwise as loudly."""


@dataclass(frozen=True)
class Parts:
    """What coverage weighs objects by.

    uncertainty  how much their uncertainty counts, 0 (coverage alone) to 1; None: as far as it has proved itself
    class_turns  whether the classes take turns, as far as uncertainty counts: both are the model's own opinion
    noise        Gumbel noise on the logarithm of the gain in the first round, which fades to a hundredth of it over
                 the planned ones; 0 is none
    """

    uncertainty: float | None = None
    class_turns: bool = True
    noise: float = 0.0

    def __post_init__(self) -> None:
        if self.uncertainty is not None and not 0 <= self.uncertainty <= 1:
            raise ValueError(f"the weight of uncertainty must lie in 0..1, got {self.uncertainty}")
        if self.noise < 0:
            raise ValueError(f"noise must be 0 or more, got {self.noise}")


USUAL = Parts()


@dataclass(frozen=True, eq=False)
class ObjectsOfImage:
    """What seems to be an object in an image; where nothing does, patches of the image.

    features       (k, d) of a backbone that training does not move
    probabilities  (k, c) of the classes; what a row lacks to 1 is that it is no object
    uncertainties  (k,) 0..1
    """

    features: np.ndarray
    probabilities: np.ndarray
    uncertainties: np.ndarray

    def __len__(self) -> int:
        return len(self.uncertainties)

    @property
    def shares(self) -> np.ndarray:
        """What each counts (k,), as far as it is an object; together 1, or a crowd would outweigh all other images."""
        foreground = self.probabilities.sum(1, dtype=np.float32)
        return np.asarray(foreground / max(float(foreground.sum()), TINY))


@dataclass(frozen=True, eq=False)
class Known:
    """What is known already.

    features  (k, d) of the annotated objects, and of patches of annotated images without any
    trust     how far uncertainty has proved itself, 0..1
    """

    features: np.ndarray
    trust: float


def cover(images: Sequence[ObjectsOfImage], known: Known, parts: Parts, count: int, noise: np.ndarray) -> list[int]:
    """Indices of all images, each with an object at least, in the order in which they should be annotated.

    `count` images are chosen one by one, each by what it brings beyond what is annotated and those before it, with
    `noise` (n,) on the logarithm of that; the others follow by what each would bring alone.
    """
    if not images:
        return []
    scene = _Scene.of(images, known, parts)
    by_gain = list(range(len(images)))
    if len(images) > SHORTLIST:
        alone = np.concatenate([scene.gains(near) for near in _nearest(images, scene.nearness)])
        by_gain = np.argsort(-alone, kind="stable").tolist()
    shortlist, beyond = by_gain[:SHORTLIST], by_gain[SHORTLIST:]
    near = np.concatenate(list(_nearest([images[i] for i in shortlist], scene.nearness)))
    return [*(shortlist[i] for i in scene.choose(near, count, noise[shortlist])), *beyond]


class _Scene:
    """References, how near each is to what is known, and what it counts.

    covered  (r,) nearness to the nearest annotated object
    turns    (r, t) what a reference counts in each of the turns that are taken: one, or that of each class
    """

    def __init__(self, nearness: Nearness, covered: np.ndarray, turns: np.ndarray) -> None:
        self.nearness, self.covered, self.turns = nearness, covered, turns

    @classmethod
    def of(cls, images: Sequence[ObjectsOfImage], known: Known, parts: Parts) -> _Scene:
        """The scene of images that each have an object."""
        at, shares = _references(images)
        nearness = Nearness(np.stack([images[i].features[j] for i, j in at]))
        trust = known.trust if parts.uncertainty is None else parts.uncertainty
        uncertainties = np.array([images[i].uncertainties[j] for i, j in at], np.float32)
        weights = shares * np.maximum(uncertainties, LEAST) ** trust
        if not parts.class_turns:
            return cls(nearness, _covered(nearness, known.features), weights[:, None])
        classes = np.stack([images[i].probabilities[j] for i, j in at]).astype(np.float32)
        return cls(nearness, _covered(nearness, known.features), weights[:, None] * classes**trust)

    def gains(self, near: np.ndarray) -> np.ndarray:
        """What images (n, r) would each bring alone, every turn counting as much as another, (n,)."""
        return np.asarray(np.maximum(near - self.covered, 0) @ (self.turns / (self.turns.sum(0) + TINY)).sum(1))

    def choose(self, near: np.ndarray, count: int, noise: np.ndarray) -> list[int]:
        """All images (n, r): `count` one by one, with noise (n,) on the logarithm of their gains, then the others."""
        left, picks = np.ones(len(near), bool), list[int]()
        for number in range(min(count, len(near))):
            gains = np.maximum(near - self.covered, 0) @ self.turns[:, number % self.turns.shape[1]]
            best = int(np.where(left, np.log(gains + TINY) + noise, -np.inf).argmax())
            picks.append(best)
            left[best] = False
            self.covered = np.maximum(self.covered, near[best])
        rest = np.flatnonzero(left)
        return [*picks, *rest[np.argsort(-self.gains(near)[rest], kind="stable")].tolist()]


def _covered(nearness: Nearness, known: np.ndarray) -> np.ndarray:
    """How near each reference is to the nearest of what is known (k, d), (r,)."""
    if len(known) > KNOWN:
        known = known[np.sort(np.random.default_rng(0).permutation(len(known))[:KNOWN])]
    covered = np.zeros(len(nearness.references), np.float32)
    for start in range(0, len(known), AT_ONCE):
        covered = np.maximum(covered, nearness.near(nearness.distances(known[start : start + AT_ONCE])).max(0))
    return covered


def _references(images: Sequence[ObjectsOfImage]) -> tuple[list[tuple[int, int]], np.ndarray]:
    """Objects, as image and number in it, that stand for all; and what each counts (r,)."""
    everything = [(i, j) for i, image in enumerate(images) for j in range(len(image))]
    shares = np.concatenate([image.shares for image in images])
    if len(everything) <= REFERENCES:
        return everything, shares
    drawn = np.random.default_rng(0).choice(len(everything), REFERENCES, replace=False, p=shares / shares.sum())
    return [everything[i] for i in np.sort(drawn)], np.ones(REFERENCES, np.float32)


def _nearest(images: Sequence[ObjectsOfImage], nearness: Nearness) -> Iterator[np.ndarray]:
    """How near each image's nearest object is to each reference, some images (n, r) at a time."""
    start = 0
    while start < len(images):
        counts = list[int]()
        while start + len(counts) < len(images) and sum(counts) < AT_ONCE:
            counts.append(len(images[start + len(counts)]))
        some = images[start : start + len(counts)]
        distances = nearness.distances(np.concatenate([image.features for image in some]))
        yield nearness.near(np.minimum.reduceat(distances, np.cumsum([0, *counts[:-1]]), 0))
        start += len(counts)


def proved(uncertainties: np.ndarray, errors: np.ndarray) -> float:
    """How far uncertainty has proved itself, 0..1: its rank correlation with the errors made on the same images (n,).

    Shrunk for few images, as if PRIOR_IMAGES more had shown a correlation of PRIOR, which is all that there is where it
    cannot be told: with less than three images, or all of them alike.
    """
    count = len(uncertainties)
    if count < 3 or np.ptp(uncertainties) == 0 or np.ptp(errors) == 0:
        return PRIOR
    correlation = float(np.corrcoef(_ranks(uncertainties), _ranks(errors))[0, 1])
    return max(0.0, (count * correlation + PRIOR_IMAGES * PRIOR) / (count + PRIOR_IMAGES))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks (n,), equal values sharing the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[places])
