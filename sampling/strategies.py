"""Strategies: from certainties to queue scores, lowest served first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Strategy = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""Certainties (n,) with NaN where nothing was found -> scores (n,) in 0..1; NaN stays NaN where they decide."""


def uncertainty(certainties: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The least certain first: MaskAL's choice. The score is the certainty itself."""
    return certainties.copy()


def certainty(certainties: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The most certain first: for comparison."""
    return 1 - certainties


def random(certainties: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """In random order: the baseline."""
    return rng.permutation(len(certainties)) / max(len(certainties), 1)


STRATEGIES: dict[str, Strategy] = {"uncertainty": uncertainty, "certainty": certainty, "random": random}
