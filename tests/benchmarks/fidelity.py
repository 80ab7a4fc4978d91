"""Does fast scoring rank images as exact scoring does, and how much does chance move a score?

    python -m tests.benchmarks.fidelity --images photos/ --annotations annotations.json --json fidelity.json

Trains the small network on half of the images, from --weights if there are any, then scores others both ways with many
passes, and the same ones repeatedly with 5, 10, 20 and 50.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from itertools import combinations, product
from pathlib import Path

import cv2
import numpy as np
import torch

from backend.project.config import ProjectConfig
from model import checkpoints
from model.engines.base import EngineConfig
from model.engines.loader import load_pretrained
from model.engines.torchvision.engine import TorchvisionEngine
from model.files import write_json
from model.formats import coco
from model.training.loop import TrainingConfig, train
from sampling.mc_dropout import ScoringConfig, score
from tests.benchmarks.fields import resize_to
from tests.benchmarks.scoring import spearman

PASSES = 50
RUNS = 4
REPEATS = 8
SPREAD_AT = (5, 10, 20, 50)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--network", default="nano")
    parser.add_argument(
        "--weights", type=Path, help="what to start from: a .safetensors file of this network and these classes"
    )
    parser.add_argument("--size", type=int, help="shortest side of the network's input  [default: as in a project]")
    parser.add_argument("--steps", type=int, default=600, help="of training; 0 for weights that are trained already")
    parser.add_argument("--save", type=Path, help="keep the trained weights in this file")
    parser.add_argument("--count", type=int, default=60, help="images to score")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    records = coco.read(options.annotations)
    order = np.random.default_rng(0).permutation(len(records))
    learned, others = order[: len(order) // 2], order[len(order) // 2 :][: options.count]
    classes = coco.class_names(options.annotations)
    engine = TorchvisionEngine(classes, EngineConfig(network=options.network))
    if options.size is not None:
        resize_to(engine, options.size)
    else:
        config = ProjectConfig().adapted(engine.config, engine.input_range, [records[i] for i in learned])
        engine = TorchvisionEngine(classes, config)

    def load(name: str) -> np.ndarray:
        return cv2.cvtColor(cv2.imread(str(options.images / name)), cv2.COLOR_BGR2RGB)

    if options.weights is not None:
        load_pretrained(engine, str(options.weights), classes)
    if options.steps:
        training = TrainingConfig(iterations=options.steps, learning_rate=5e-4, batch_size=4, warmup_iterations=50)
        train(engine, [records[i] for i in learned], load, training)
    if options.save is not None:
        checkpoints.save(options.save, engine.tensors(), {})
    report = measure(engine, [load(records[i].image) for i in others])
    print(json.dumps(report, indent=2))
    if options.json is not None:
        write_json(options.json, report)


def measure(engine: TorchvisionEngine, images: list[np.ndarray], passes: int = PASSES) -> dict[str, object]:
    """Rank correlations, overlap of the first places, and the spread of a score.

    Chance keeps the correlation of two runs below 1 even if they are runs of the same. So there are several runs of
    either way: `spearman` is the mean over all pairs of one run each, `spearman_of_means` compares the images' means
    over the runs, where less is left of chance, and `spearman_without_chance` is corrected for it (Spearman 1904).
    """
    table = np.array(
        [[scores(engine, images, run, passes, exact=exact) for run in range(RUNS)] for exact in (True, False)]
    )
    found = ~np.isnan(table).any((0, 1))
    exact, fast = table[:, :, found]  # (runs, n) each
    both = np.mean([spearman(a, b) for a in exact for b in fast])
    own = [np.mean([spearman(a, b) for a, b in combinations(runs, 2)]) for runs in (exact, fast)]
    firsts = [k for k in (5, 10, 20) if k < found.sum()]
    return {
        "images": len(images),
        "objects": float(np.mean([len(engine.predict(image)) for image in images])),
        "with_detections": int(found.sum()),
        "nan": {"exact": np.isnan(table[0]).sum(1).tolist(), "fast": np.isnan(table[1]).sum(1).tolist()},
        "passes": passes,
        "runs": RUNS,
        "spearman": round(float(both), 4),
        "spearman_of_exact_with_itself": round(float(own[0]), 4),
        "spearman_of_fast_with_itself": round(float(own[1]), 4),
        "spearman_of_means": round(spearman(exact.mean(0), fast.mean(0)), 4),
        "spearman_without_chance": round(float(both / np.sqrt(own[0] * own[1])), 4),
        "overlap_of_first": {k: mean_overlap(product(exact, fast), k) for k in firsts},
        "overlap_of_exact_with_itself": {k: mean_overlap(combinations(exact, 2), k) for k in firsts},
        "mean_certainty": {"exact": round(float(exact.mean()), 4), "fast": round(float(fast.mean()), 4)},
        "spread": {passes: spread_at(engine, images[: len(images) // 3], passes) for passes in SPREAD_AT},
    }


def scores(engine: TorchvisionEngine, images: list[np.ndarray], run: int, passes: int, *, exact: bool) -> list[float]:
    return [certainty(engine, image, passes, 1000 * run + i, exact=exact) for i, image in enumerate(images)]


def certainty(engine: TorchvisionEngine, image: np.ndarray, passes: int, seed: int, *, exact: bool) -> float:
    config = ScoringConfig(passes, exact=exact)
    [encoded] = engine.encode([image], exact=exact)
    return score(engine, encoded, config, torch.Generator().manual_seed(seed)).certainty


def spread_at(engine: TorchvisionEngine, images: list[np.ndarray], passes: int) -> float:
    """Median over the images of the standard deviation of repeated scores."""
    deviations = []
    for image in images:
        [encoded] = engine.encode([image])
        config = ScoringConfig(passes)
        values = [score(engine, encoded, config, torch.Generator().manual_seed(s)).certainty for s in range(REPEATS)]
        deviations.append(np.std(values, ddof=1))
    return round(float(np.nanmedian(deviations)), 4)


def mean_overlap(pairs: Iterable[tuple[np.ndarray, np.ndarray]], k: int) -> float:
    """Share of the k lowest that two lists have in common, the mean over pairs of lists."""
    return round(float(np.mean([len(set(a.argsort()[:k]) & set(b.argsort()[:k])) / k for a, b in pairs])), 3)


if __name__ == "__main__":
    main()
