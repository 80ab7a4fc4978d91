"""How much validation images flatter a version that has learned from their near copies.

    python -m tests.benchmarks.flattered --images DIR --annotations FILE [--judge linear|network] [--seeds 10]
        [--copies 3] [--annotated 170] [--limit N] [--json FILE]

A project of photos of which each is there once and with so many near copies (as `maskal simulate --redundant` makes
them), split image by image as a project splits it: 15 % for validation. The judge learns from some training images,
drawn at random, and is asked on all validation images, on those that are no near copies of what it learned from, as
the project finds them, and on photos of which nothing is in the project: what is really to be expected.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backend.rounds.snapshots import VAL_SHARE
from backend.simulation.linear_judge import class_accuracy, fitted_probabilities
from backend.simulation.network_judge import NetworkJudge
from backend.simulation.object_features import ObjectFeatures, features_of
from backend.simulation.options import SimulationOptions
from backend.simulation.twins import whole_features
from backend.simulation.world import Split, World, build_world, split
from model.files import write_json
from model.near_copies import find_near_copies, glance, thumbnail


@dataclass(frozen=True)
class Sets:
    """Places of the images that are learned from, and of those that the judge is asked on, by their kind."""

    learn: tuple[int, ...]
    asked: dict[str, tuple[int, ...]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--judge", default="linear", choices=("linear", "network"))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--copies", type=int, default=3)
    parser.add_argument("--annotated", type=int, default=170)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(options, Path(folder))
    print(found)
    if options.json:
        write_json(options.json, found)


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Each seed's values, and their means."""
    chosen = SimulationOptions(
        options.images,
        options.annotations,
        folder,
        ("random",),
        limit=options.limit,
        judge=options.judge,
        redundant=options.copies,
    )
    world = build_world(chosen)
    features = features_of(world, folder) if options.judge == "linear" else None
    whole = features.whole if features else whole_features(world)
    rows = []
    for seed in range(options.seeds):
        sets = sets_of(world, whole, split(world, chosen, seed), seed, options.annotated)
        values = linear(features, sets) if features else network(world, sets, seed, folder)
        rows.append({**values, **{f"{kind}_images": len(places) for kind, places in sets.asked.items()}})
        print(rows[-1], flush=True)
    means = {name: round(float(np.mean([row[name] for row in rows])), 3) for name in rows[0]}
    gains = np.array([row["all"] - row["kept"] for row in rows])
    half = round(float(1.96 * gains.std(ddof=1) / len(rows) ** 0.5), 3) if len(rows) > 1 else None
    return {"judge": options.judge, **means, "flattered_by": round(float(gains.mean()), 3), "half_interval": half}


def sets_of(world: World, whole: np.ndarray, drawn: Split, seed: int, annotated: int) -> Sets:
    """Some training images; all validation images, those that are near copies of none of them, and fresh photos."""
    order = np.random.default_rng(seed).permutation(drawn.learn)
    count = round(VAL_SHARE * len(order))
    validation, learn = order[:count].tolist(), order[count : count + annotated].tolist()
    both = [*learn, *validation]
    looks = [glance(thumbnail(world.image(world.records[place].image))) for place in both]
    new = range(len(learn), len(both))
    found = find_near_copies(whole[both], new, looks.__getitem__)
    copied = {both[row] for row, others in found if any(other < len(learn) for other in others)}
    kept = tuple(place for place in validation if place not in copied)
    return Sets(tuple(learn), _of_common_classes(world, {"all": tuple(validation), "kept": kept, "fresh": drawn.test}))


def _of_common_classes(world: World, asked: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The sets without images of classes that not all of them show: they are compared by the means over the classes."""

    def shown(place: int) -> set[str]:
        return {outline.label for outline in world.records[place].outlines}

    common = set.intersection(*({label for place in places for label in shown(place)} for places in asked.values()))
    return {kind: tuple(p for p in places if shown(p) <= common) for kind, places in asked.items()}


def linear(features: ObjectFeatures, sets: Sets) -> dict[str, float]:
    """Class accuracy of a linear classifier that was shown the objects."""

    def objects(places: Sequence[int]) -> np.ndarray:
        return np.concatenate([np.arange(len(features.labels))[features.of_image(place)] for place in places])

    probabilities = fitted_probabilities(features, objects(sets.learn))
    return {
        kind: round(class_accuracy(probabilities, features.labels, objects(places)), 4)
        for kind, places in sets.asked.items()
    }


def network(world: World, sets: Sets, seed: int, folder: Path) -> dict[str, float]:
    """Mask AP of a network that was trained on the images once."""

    def value(asked: tuple[int, ...]) -> float:
        judge = NetworkJudge(world, Split(sets.learn, asked), lambda loop: folder / f"{seed}.safetensors", seed)
        return round(judge.learn(sets.learn, 0), 4)

    return {kind: value(places) for kind, places in sets.asked.items()}


if __name__ == "__main__":
    main()
