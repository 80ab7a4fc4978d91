"""What learning curves say: at which cost a strategy reaches what random choice reaches in the end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sampling.students_t import students_t

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Curve:
    """One run: costs (images, objects or seconds, rising) and the values reached with them."""

    costs: tuple[float, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.costs or len(self.costs) != len(self.values):
            raise ValueError(f"a curve needs as many costs as values, got {len(self.costs)} and {len(self.values)}")


@dataclass(frozen=True)
class Share:
    """Which share of random's final cost a strategy needs, over several seeds.

    mean and its 95 % interval low..high over the seeds (None with one seed); reached is how many runs get there,
    per_seed None where one does not.
    """

    mean: float
    low: float | None
    high: float | None
    reached: int
    per_seed: tuple[float | None, ...]


def cost_to_reach(curve: Curve, value: float) -> float | None:
    """Cost at which the best value so far first reaches `value`, linear between the steps; None if it never does."""
    best = np.maximum.accumulate(curve.values)
    reached = np.flatnonzero(best >= value)
    if not len(reached):
        return None
    index = int(reached[0])
    if index == 0:
        return float(curve.costs[0])
    share = (value - best[index - 1]) / (best[index] - best[index - 1])
    return float(curve.costs[index - 1] + share * (curve.costs[index] - curve.costs[index - 1]))


def share_of_random(curves: Mapping[int, Curve], random: Mapping[int, Curve]) -> Share:
    """The share for the curves of one strategy, by seed; random's are those of the same seeds.

    The value to reach is random's final one, the mean over all seeds, so that one lucky last step decides nothing.
    Random's own share is found in the same way, and is what chance makes of a noisy curve: compare with it. A run
    that never gets there counts as 1, or as its own final cost where that is larger; so does one beside a random that
    cost nothing, having chosen nothing but images without objects.
    """
    seeds = sorted(curves.keys() & random.keys())
    if not seeds:
        raise ValueError("a share needs a curve of random for at least one of the same seeds")
    target = float(np.mean([random[seed].values[-1] for seed in seeds]))
    found, counted = [], []
    for seed in seeds:
        cost, final = cost_to_reach(curves[seed], target), random[seed].costs[-1]
        share = None if cost is None or not final else cost / final
        found.append(share)
        counted.append(max(1.0, curves[seed].costs[-1] / (final or math.inf)) if share is None else share)
    low, high = interval(counted)
    return Share(float(np.mean(counted)), low, high, sum(f is not None for f in found), tuple(found))


@dataclass(frozen=True)
class Gain:
    """How much higher the curves of one strategy run than those of another, over several seeds.

    mean and its 95 % interval low..high over the pairs of one seed (None with one pair); per_seed the differences.
    """

    mean: float
    low: float | None
    high: float | None
    per_seed: tuple[float, ...]


def mean_height(curve: Curve, begin: float, end: float) -> float:
    """Area under a curve between two costs, as its mean height there; linear between the steps, flat beyond them.

    Where the two are one, the last value at that cost; steps that cost nothing (images without objects) are upright.
    """
    if begin > end:
        raise ValueError(f"an area needs costs that do not fall, got {begin:g} to {end:g}")
    if begin == end:
        return float(np.interp(begin, curve.costs, curve.values))
    knots = np.unique([begin, *(cost for cost in curve.costs if begin < cost < end), end])
    middles = (knots[1:] + knots[:-1]) / 2  # no step is upright there
    return float(np.diff(knots) @ np.interp(middles, curve.costs, curve.values) / (end - begin))


def gain_over(curves: Mapping[int, Curve], others: Mapping[int, Curve]) -> Gain:
    """The difference of the areas under the curves of the same seeds, each over the costs that both have."""
    seeds = sorted(curves.keys() & others.keys())
    if not seeds:
        raise ValueError("a gain needs curves of both strategies for at least one seed")
    differences = []
    for seed in seeds:
        one, other = curves[seed], others[seed]
        begin, end = max(one.costs[0], other.costs[0]), min(one.costs[-1], other.costs[-1])
        differences.append(mean_height(one, begin, end) - mean_height(other, begin, end))
    low, high = interval(differences)
    return Gain(float(np.mean(differences)), low, high, tuple(differences))


def interval(values: Sequence[float] | np.ndarray) -> tuple[float, float] | tuple[None, None]:
    """95 % interval of the mean of values (n,) by Student's t; none for one value.

    A bootstrap of so few values as there are seeds draws them too close: of three its interval holds the mean in 75 %.
    """
    if len(values) < 2:
        return None, None
    half = students_t(len(values) - 1, CONFIDENCE) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    mean = float(np.mean(values))
    return mean - half, mean + half
