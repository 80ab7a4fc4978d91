"""Which images show objects most like given ones, by features of a backbone that training does not move."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

AT_ONCE = 4096
"""Objects that are compared at once."""

TINY = 1e-6


def likeness(wanted: np.ndarray, features: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """How like the wanted objects (q, d) those of each image are, (n,) -1..1: the mean over the wanted of the nearest.

    The objects of image i are the rows starts[i]..starts[i + 1] of features (m, d), one at least. Nearness is the
    cosine of features that are standardised over all objects, as a common offset would make everything alike.
    """
    if not len(features):
        return np.zeros(len(starts) - 1, np.float32)
    mean, spread = _moments(features)
    directions = _unit((np.asarray(wanted, np.float32) - mean) / spread)
    near = np.concatenate([_unit((part - mean) / spread) @ directions.T for part in _parts(features)])  # (m, q)
    return np.asarray(np.maximum.reduceat(near, starts[:-1]).mean(1))


def _moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation (d,) of the features (m, d)."""
    total, squares = np.zeros(features.shape[1]), np.zeros(features.shape[1])
    for part in _parts(features):
        total += part.sum(0, dtype=float)
        squares += np.square(part, dtype=float).sum(0)
    mean = total / len(features)
    spread = np.sqrt(np.maximum(squares / len(features) - mean**2, 0)) + TINY
    return mean.astype(np.float32), spread.astype(np.float32)


def _parts(features: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(features), AT_ONCE):
        yield features[start : start + AT_ONCE].astype(np.float32)


def _unit(values: np.ndarray) -> np.ndarray:
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True).clip(TINY))
