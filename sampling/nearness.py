"""How near things lie to one another, by their features."""

from __future__ import annotations

import numpy as np

SCALE = 0.5
"""Scale of the nearness, as a share of the mean distance between references; the median would be that within the
largest group, where one is larger than all others together.
"""

TINY = 1e-6


class Nearness:
    """Nearness to references (r, d): features are standardised as all of them (n, d) are, and compared as directions.

    Without `all_features` the references are all there is.
    """

    def __init__(self, references: np.ndarray, all_features: np.ndarray | None = None) -> None:
        values = np.asarray(references if all_features is None else all_features, np.float32)
        self.mean, self.deviation = values.mean(0), values.std(0) + TINY
        self.references = self.directions(references)
        self.scale = max(SCALE * float((2 - 2 * self.references @ self.references.T).mean()), TINY)

    def directions(self, features: np.ndarray) -> np.ndarray:
        """Features (n, d) standardised, each of length 1."""
        values = (np.asarray(features, np.float32) - self.mean) / self.deviation
        return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True).clip(TINY))

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Squared distances (n, r) float32 from the references, 0..4."""
        return np.asarray(np.maximum(2 - 2 * self.directions(features) @ self.references.T, 0))

    def near(self, distances: np.ndarray) -> np.ndarray:
        """Nearness 0..1 for squared distances, as float32."""
        return np.asarray(np.exp(distances * np.float32(-1 / self.scale)), np.float32)
