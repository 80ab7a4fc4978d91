"""How long to train, at which rate, and how often each image is shown.

The iteration rule and the repeat factors are MaskAL's (Blok et al. 2022); repeat factors follow
Gupta, Dollar and Girshick (LVIS, 2019).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

POLICIES = ("cosine", "steps_with_decay")


def iterations(images: int, *, base: int, step_size: int, step_image_number: int) -> int:
    """Training iterations for so many annotated images: `base` and `step_size` more per further `step_image_number`."""
    if images < 1:
        raise ValueError(f"training needs at least one annotated image, got {images}")
    return base + (math.ceil(images / step_image_number) - 1) * step_size


def decay_steps(max_iterations: int, ratios: Sequence[float]) -> tuple[int, ...]:
    """Iterations at which the learning rate drops."""
    return tuple(int(ratio * max_iterations) for ratio in ratios)


def learning_rate_factor(step: int, total: int, warmup: int, policy: str, steps: Sequence[int], gamma: float) -> float:
    """What the base learning rate is multiplied with at a step (0-based): linear warm-up, then steps or cosine."""
    if policy not in POLICIES:
        raise ValueError(f"learning_policy must be one of {', '.join(POLICIES)}, got {policy!r}")
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if policy == "steps_with_decay":
        return gamma ** sum(step >= s for s in steps)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def repeat_threshold(
    labels_per_image: Sequence[Sequence[int]], minority_classes: Sequence[int], repeat_factor_smallest_class: float
) -> float:
    """Image frequency below which a class is repeated, 0..1; 0 (no repetition) if a minority class is absent."""
    counts = Counter(label for labels in labels_per_image for label in set(labels))
    smallest = min((counts[label] for label in minority_classes), default=0)
    return min(1.0, repeat_factor_smallest_class**2 * smallest / max(len(labels_per_image), 1))


def repeat_factors(labels_per_image: Sequence[Sequence[int]], threshold: float) -> np.ndarray:
    """How often each image is shown per epoch, (n,) float64 >= 1: the largest of its classes' sqrt(t / f)."""
    images = len(labels_per_image)
    counts = Counter(label for labels in labels_per_image for label in set(labels))
    per_class = {label: max(1.0, math.sqrt(threshold / (count / images))) for label, count in counts.items()}
    return np.array([max((per_class[label] for label in labels), default=1.0) for labels in labels_per_image])


def epoch_order(factors: np.ndarray, rng: np.random.Generator) -> list[int]:
    """Image indices of one epoch in random order; the fraction of a factor is rounded at random."""
    whole = np.floor(factors)
    repeats = (whole + (rng.random(len(factors)) < factors - whole)).astype(int)
    return [int(i) for i in rng.permutation(np.repeat(np.arange(len(factors)), repeats))]


def with_replay(factors: np.ndarray, is_new: Sequence[bool], replay: float | None) -> np.ndarray:
    """Factors (n,) changed so that this share of an epoch's showings, 0..1 but not 1, goes to images that are not new.

    None leaves all as they are, and so does a set where none or all are new.
    """
    new = np.array(is_new, bool)
    if replay is None or new.all() or not new.any():
        return factors
    changed = factors.copy()
    changed[~new] *= replay / (1 - replay) * factors[new].sum() / factors[~new].sum()
    return changed
