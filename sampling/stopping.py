"""When annotating on, and when choosing what to annotate, hardly pays any more; nothing where that cannot be told.

Both say so only if the upper end of an interval of CONFIDENCE lies below what still counts, so that they are silent
where a project has seen too little. How often they are right: `python -m tests.benchmarks.stopping`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sampling.students_t import students_t

CONFIDENCE = 0.9
"""Of all intervals here: one in twenty lies wholly below the truth, as with the gate's."""

FEWEST, REACH = 6, 3.0
"""Measurements that it takes, the newest; and those before them that had a third of today's images at least."""

AHEAD = 0.5
"""How far is looked ahead: half as many images again."""

HARDLY = 0.02
"""A gain of AP, 0..1, below which images ahead hardly help."""

OWN_SHARE, TRAINING_NOISE = 0.3, 0.01
"""What two versions do not share of the chance of which images validate them; and the least deviation of a training."""

MIN_CHOSEN, MIN_CHANCE = 40, 20
"""Images whose errors are known that it takes to compare choice with chance."""

HARDLY_MORE = 1.25
"""So many times the errors of chance below which choosing hardly pays."""

DRAWS = 2000


@dataclass(frozen=True)
class Measurement:
    """What was reached with so many annotated images: AP 0..1, and its standard deviation over validation images."""

    images: int
    ap: float
    deviation: float


@dataclass(frozen=True)
class Outlook:
    """The AP that `ahead` more images are projected to bring, by so many measurements; low..high its interval."""

    measurements: int
    ahead: int
    gain: float
    low: float
    high: float

    @property
    def is_flat(self) -> bool:
        """Whether more images hardly help any more."""
        return self.high < HARDLY


@dataclass(frozen=True)
class Choice:
    """The errors found in `chosen` images beside those in images `by_chance`: so many times as many, low..high.

    chosen_errors, chance_errors  mean share of an image's objects that were wrong, 0..1
    """

    chosen: int
    by_chance: int
    chosen_errors: float
    chance_errors: float
    times: float
    low: float
    high: float

    @property
    def hardly_pays(self) -> bool:
        """Whether choosing finds hardly more errors than chance."""
        return self.high < HARDLY_MORE


def look_ahead(measurements: Sequence[Measurement]) -> Outlook | None:
    """The projected gain, by a line over the logarithm of the images; None with fewer than FEWEST measurements.

    Learning curves bend downwards over that logarithm, so the line promises too much rather than too little.
    Validation images stay such, and more join them, so what is chance about them is mostly shared between versions:
    two have in common what the later one has, but for OWN_SHARE of it. What scatters beyond that is how trainings
    differ: as much of it as the residuals show (Paule and Mandel 1982), TRAINING_NOISE at least.
    """
    rows = sorted(measurements, key=lambda one: one.images)
    rows = [row for at, row in enumerate(rows) if at >= len(rows) - FEWEST or row.images * REACH >= rows[-1].images]
    if len(rows) < FEWEST or rows[0].images == rows[-1].images:
        return None
    sought = np.stack([np.ones(len(rows)), np.log([row.images for row in rows])], 1)  # (n, 2)
    slope, deviation = _slope(sought, np.array([row.ap for row in rows]), _covariance(rows))
    step, spread = float(np.log1p(AHEAD)), students_t(len(rows) - 2, CONFIDENCE)
    ends = (slope - spread * deviation, slope + spread * deviation)
    return Outlook(len(rows), round(AHEAD * rows[-1].images), step * slope, step * ends[0], step * ends[1])


def compare_with_chance(chosen: Sequence[float], by_chance: Sequence[float]) -> Choice | None:
    """How many times the errors of chance the chosen images held; None where too few of either are known.

    Both are shares of each image's objects that were wrong, 0..1; the interval is a bootstrap over the images. None,
    too, where the images by chance held no errors, or in so few images that the interval has no upper end.
    """
    if len(chosen) < MIN_CHOSEN or len(by_chance) < MIN_CHANCE:
        return None
    rng = np.random.default_rng(0)
    one, other = (rng.choice(np.asarray(some, float), (DRAWS, len(some))).mean(1) for some in (chosen, by_chance))
    if (other == 0).mean() >= (1 - CONFIDENCE) / 2:
        return None
    times = np.divide(one, other, out=np.full(DRAWS, np.finfo(float).max), where=other > 0)
    low, high = np.quantile(times, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    means = float(np.mean(chosen)), float(np.mean(by_chance))
    return Choice(len(chosen), len(by_chance), *means, means[0] / means[1], float(low), float(high))


def _covariance(rows: Sequence[Measurement]) -> np.ndarray:
    """What the chance of the validation images makes of measurements in their order, (n, n)."""
    variances = np.maximum.accumulate([row.deviation**2 for row in rows][::-1])[::-1]  # the more images, the smaller
    at = np.arange(len(rows))
    return np.asarray((1 - OWN_SHARE) * variances[np.maximum.outer(at, at)] + OWN_SHARE * np.diag(variances))


def _slope(sought: np.ndarray, aps: np.ndarray, covariance: np.ndarray) -> tuple[float, float]:
    """The slope of a line through aps (n,) over sought (n, 2), and its standard deviation."""

    def fitted(noise: float) -> tuple[np.ndarray, np.ndarray, float]:
        """Both coefficients (2,), their covariance (2, 2), and the residuals' chi square."""
        inverse = np.linalg.inv(covariance + noise * np.eye(len(aps)))
        of_both = np.linalg.inv(sought.T @ inverse @ sought)
        both = of_both @ sought.T @ inverse @ aps
        left = aps - sought @ both
        return both, of_both, float(left @ inverse @ left)

    expected, low, high = len(aps) - 2, TRAINING_NOISE**2, 1.0
    if fitted(low)[2] > expected:
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if fitted(middle)[2] > expected else (low, middle)
    both, of_both, _ = fitted(low)
    return float(both[1]), float(np.sqrt(of_both[1, 1]))
