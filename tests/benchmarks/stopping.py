"""How often it is said rightly, and how often wrongly, that more images or choosing them hardly pay.

    python -m tests.benchmarks.stopping [--projects 100] [--json FILE]

Projects are played whose truth is known. Learning curves of five kinds, measured after each round as a project measures
them: on the validation images that it has by then, 15 % of all, of which each round's share the luck, by trainings that
differ; "noisy" ones have objects of very different difficulty and trainings that differ by 0.05. And queues whose first
images hold more errors than chance finds, as far as uncertainty and errors go together. Each look at such a project
either says something or is silent; of what it says, the truth decides. Where it was said wrongly, `farthest` is how far
at most the truth lay beyond the limit: so much more AP, or so many times more errors.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model.files import write_json
from sampling.stopping import (
    AHEAD,
    HARDLY,
    HARDLY_MORE,
    MIN_CHANCE,
    MIN_CHOSEN,
    Measurement,
    compare_with_chance,
    look_ahead,
)

Truth = Callable[[np.ndarray], np.ndarray]
"""AP by the number of images."""

SIZES = ((30, 20, 16), (30, 40, 12), (100, 200, 12))
"""First images, images of each round, rounds."""

VAL_SHARE, FEWEST_MEASURED = 0.15, 5
POOL, PER_ROUND, BY_CHANCE, QUEUES = 400, 20, 3, 15


@dataclass(frozen=True)
class Said:
    """What one look said, whether that was so, and how far the truth was beyond the limit."""

    is_said: bool
    is_so: bool
    beyond: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--projects", type=int, default=100)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = measure(options.projects)
    print(json.dumps(found, indent=1))
    if options.json:
        write_json(options.json, found)


def measure(projects: int) -> dict[str, Any]:
    """Of each kind, and of all together, how often each verdict was said rightly and wrongly."""
    curves = {kind: [look for seed in range(projects) for look in looks_at_curve(kind, seed)] for kind in CURVES}
    queues = {kind: [look for seed in range(projects) for look in looks_at_queue(kind, seed)] for kind in LINKS}
    return {"more images hardly help": told(curves), "choosing hardly pays": told(queues)}


def told(looks: dict[str, list[Said]]) -> dict[str, dict[str, float]]:
    """The counts by kind."""
    everything = [look for some in looks.values() for look in some]
    return {kind: _counts(some) for kind, some in {**looks, "all": everything}.items()}


def _counts(looks: list[Said]) -> dict[str, float]:
    said = [look for look in looks if look.is_said]
    wrong = [look.beyond for look in said if not look.is_so]
    counts = {
        "looks": len(looks),
        "so": sum(look.is_so for look in looks),
        "said": len(said),
        "right": len(said) - len(wrong),
        "wrong": len(wrong),
    }
    return {**counts, "farthest": round(max(wrong), 4)} if wrong else counts


def rising(rng: np.random.Generator) -> Truth:
    """A power law, as networks learn."""
    end, loss, power = rng.uniform(0.7, 0.95), rng.uniform(0.35, 0.6), rng.uniform(0.2, 0.5)
    return lambda images: end - loss * (images / 30) ** -power


def steady(rng: np.random.Generator) -> Truth:
    """As much again with each doubling."""
    start, slope = rng.uniform(0.2, 0.4), rng.uniform(0.06, 0.12)
    return lambda images: start + slope * np.log(images / 30)


def late(rng: np.random.Generator) -> Truth:
    """Slow at first, then steep, then level."""
    end, middle, width = rng.uniform(0.4, 0.7), rng.uniform(60, 200), rng.uniform(0.3, 0.5)
    return lambda images: end / (1 + np.exp(-np.log(images / middle) / width))


def flat(rng: np.random.Generator) -> Truth:
    """Level soon, from the beginning or after some rounds."""
    end, loss, images_for_it = rng.uniform(0.3, 0.8), rng.uniform(0, 0.3), rng.uniform(20, 80)
    return lambda images: end - loss * np.exp(-(images - 30) / images_for_it)


def falling(rng: np.random.Generator) -> Truth:
    """Worse with each round, as where annotators come to disagree."""
    start, slope = rng.uniform(0.6, 0.7), rng.uniform(0.02, 0.06)
    return lambda images: start - slope * np.log(images / 30)


CURVES = {
    "rising": (rising, False),
    "steady": (steady, False),
    "late": (late, False),
    "flat": (flat, False),
    "falling": (falling, False),
    "noisy rising": (rising, True),
    "noisy flat": (flat, True),
}
LINKS = {"uncertainty tells nothing": 0.0, "it tells little": 0.15, "something": 0.35, "much": 0.6}
"""How far uncertainty and difficulty correlate."""


def looks_at_curve(kind: str, seed: int) -> Iterator[Said]:
    """What is said after each round: that more images hardly help."""
    rng = np.random.default_rng([seed, list(CURVES).index(kind)])
    make, is_noisy = CURVES[kind]
    truth = make(rng)
    measured = list(measurements(truth, SIZES[seed % len(SIZES)], rng, is_noisy=is_noisy))
    for count in range(1, len(measured) + 1):
        outlook, images = look_ahead(measured[:count]), measured[count - 1].images
        now, then = truth(np.array([images, (1 + AHEAD) * images]))
        beyond = float(then - now) - HARDLY
        yield Said(outlook is not None and outlook.is_flat, beyond < 0, beyond)


def measurements(
    truth: Truth, size: tuple[int, int, int], rng: np.random.Generator, *, is_noisy: bool
) -> Iterator[Measurement]:
    """A curve as a project measures it; rounds with too few validation images have no interval, and count for nothing.

    An image's luck has a part that all versions share with it, as some are harder than others.
    """
    first, each, rounds = size
    images = first + each * np.arange(rounds)
    validated = np.cumsum(rng.binomial(np.diff(images, prepend=0), VAL_SHARE))
    spread, shared = (0.45 if is_noisy else rng.uniform(0.2, 0.4)), rng.uniform(0.4, 0.9)
    trainings = 0.05 if is_noisy else rng.uniform(0.005, 0.03)
    of_images, of_versions = rng.normal(0, spread, validated[-1]), rng.normal(0, spread, (rounds, validated[-1]))
    for number, (count, seen) in enumerate(zip(images, validated, strict=True)):
        if seen >= FEWEST_MEASURED:
            luck = shared**0.5 * of_images[:seen] + (1 - shared) ** 0.5 * of_versions[number, :seen]
            ap = truth(count) + luck.mean() + rng.normal(0, trainings)
            yield Measurement(int(count), float(np.clip(ap, 0, 1)), float(luck.std(ddof=1) / seen**0.5))


def looks_at_queue(kind: str, seed: int) -> Iterator[Said]:
    """What is said after each round of a project: that its choosing hardly pays."""
    rng = np.random.default_rng([seed, list(LINKS).index(kind)])
    found: tuple[list[float], list[float]] = ([], [])
    expected: tuple[list[float], list[float]] = ([], [])
    level = rng.uniform(-1.5, 0.5)
    for number in range(QUEUES):
        difficulty = rng.normal(size=POOL)
        wrong = 1 / (1 + np.exp(-(level - 0.05 * number + difficulty)))  # share of an image's objects, expected
        uncertainty = LINKS[kind] * difficulty + (1 - LINKS[kind] ** 2) ** 0.5 * rng.normal(size=POOL)
        order = np.argsort(-uncertainty)
        taken = (order[: PER_ROUND - BY_CHANCE], rng.permutation(POOL)[:BY_CHANCE])
        for errors, some in zip(found, taken, strict=True):
            objects = 1 + rng.poisson(3, len(some))
            errors += (rng.binomial(objects, wrong[some]) / objects).tolist()
        expected[0].append(float(wrong[taken[0]].mean()))
        expected[1].append(float(wrong.mean()))
        choice, times = compare_with_chance(*found), np.mean(expected[0]) / np.mean(expected[1])
        if min(len(found[0]) - MIN_CHOSEN, len(found[1]) - MIN_CHANCE) >= 0:
            is_said = choice is not None and choice.hardly_pays
            yield Said(is_said, bool(times < HARDLY_MORE), float(times - HARDLY_MORE))


if __name__ == "__main__":
    main()
