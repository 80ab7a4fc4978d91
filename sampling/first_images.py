"""The order in which images are annotated first, before there is a model: those that stand for the most others.

Greedy coverage of features of images (MaxHerding, Bae et al. 2024, arXiv 2407.12212): each image is the one that brings
all of them nearest to what is annotated or chosen before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sampling.nearness import Nearness

REFERENCES = 2048
"""Images that stand for all of them."""


@dataclass(frozen=True)
class Pick:
    """An image in its place of the order.

    stands_for  share of all images that are nearer to it than to any that is annotated or comes before it, 0..1;
                None where it is so far back that it was not chosen one by one
    """

    index: int
    stands_for: float | None


def cover(features: np.ndarray, annotated: np.ndarray, count: int) -> list[Pick]:
    """All images (n, d) that are not annotated, (n,) bool, in the order in which they should be.

    `count` of them are chosen one by one, the others follow by what each would bring alone. Repeatable, and true to
    itself: once the first of an order are annotated, the rest comes in the order that it had.
    """
    if not len(features):
        return []
    near = _nearness(features)  # (n, r)
    covered = near[annotated].max(0) if annotated.any() else np.zeros(near.shape[1], np.float32)
    left = ~annotated
    picks = []
    for _ in range(min(count, int(left.sum()))):
        gains = np.where(left, np.maximum(near - covered, 0).sum(1), -1)
        best = int(gains.argmax())
        picks.append(Pick(best, float((near[best] > covered).mean())))
        left[best] = False
        covered = np.maximum(covered, near[best])
    gains = np.maximum(near - covered, 0).sum(1)
    rest = np.flatnonzero(left)
    return [*picks, *(Pick(int(i), None) for i in rest[np.argsort(-gains[rest], kind="stable")])]


def _nearness(features: np.ndarray) -> np.ndarray:
    """How near each image (n, d) is to each of the references, (n, r) float32, 0..1."""
    references = np.sort(np.random.default_rng(0).permutation(len(features))[:REFERENCES])
    nearness = Nearness(features[references], features)
    return nearness.near(nearness.distances(features))
