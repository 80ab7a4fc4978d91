"""What scoring an image costs, side by side in one run: an ordinary prediction, MaskAL's loop read plainly, and ours.

    python -m tests.benchmarks.scoring --size 800 --original 2400 --json scoring.json

ResNet-50 FPN, T = 10 passes; its last layers are fitted to generated fields first, so that there are objects to find,
or it has the `--weights` of `tests.benchmarks.trained_resnet50`.
Every image is measured each way in turn, predictions and ours three times; the figures are medians over the images, the
ratios those of one image. Ours is the fast way; `exact` is the published method, also ours. Whether both order images
alike is a question for `tests.benchmarks.fidelity` and `trained_resnet50`, as that takes a network that was trained.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.engines.torchvision.engine import TorchvisionEngine
from model.engines.torchvision.precision import has_bfloat16
from model.files import write_json
from sampling.mc_dropout import ScoringConfig, score
from tests.benchmarks.fields import fields
from tests.benchmarks.fitted_resnet50 import fitted_resnet50, loaded_resnet50
from tests.benchmarks.maskal import score_plainly

TILES = 2
"""2 x 2 fields with one to four heads each: about as many objects as MaskAL's photos show."""
PASSES = 10
REPEATS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--size", type=int, choices=(320, 800), default=800, help="shortest side of the network's input"
    )
    parser.add_argument("--original", type=int, help="side of the square images in pixels  [default: --size]")
    parser.add_argument("--images", type=int, default=9)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.weights is None:
        engine = fitted_resnet50(options.device, options.size)
    else:
        engine = loaded_resnet50(options.weights, options.device, options.size)
    made = fields(options.images, 99, options.original or options.size, TILES)
    report = measure(engine, [image for image, _ in made])
    print(json.dumps(report, indent=2))
    if options.json is not None:
        write_json(options.json, report)


def measure(engine: TorchvisionEngine, images: list[np.ndarray]) -> dict[str, Any]:
    """Seconds per image of each way."""
    ways: dict[str, Callable[[np.ndarray, int], object]] = {
        "prediction": lambda image, seed: predict(engine, image),
        "prediction_float32": lambda image, seed: engine.predict(image),
        "reference": lambda image, seed: score_plainly(engine, image, PASSES, seed),
        "exact": lambda image, seed: scored(engine, image, seed, exact=True),
        "ours": lambda image, seed: scored(engine, image, seed, exact=False),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    objects = []
    for name in ways:
        if name != "reference":
            ways[name](images[0], 0)  # the first call of all takes longer
    for seed, image in enumerate(images):
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for repeat in range(REPEATS):
            for name in ways if repeat == 0 else ("prediction", "ours"):
                started = now(engine)
                ways[name](image, seed)
                taken[name].append(now(engine) - started)
        for name, times in taken.items():
            seconds[name].append(statistics.median(times))
        objects.append(len(engine.predict(image)))
    median = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        "seconds": {name: round(value, 4) for name, value in median.items()},
        "speedup_exact": round(ratio(seconds["reference"], seconds["exact"]), 2),
        "speedup": round(ratio(seconds["reference"], seconds["ours"]), 2),
        "extra_over_prediction": round(ratio(seconds["ours"], seconds["prediction"]) - 1, 3),
        "extra_over_prediction_float32": round(ratio(seconds["ours"], seconds["prediction_float32"]) - 1, 3),
        "images_per_second": round(1 / median["ours"], 2),
        "objects": statistics.median(objects),
        "passes": PASSES,
        "images": len(images),
        "original": images[0].shape[0],
        "size": engine.training_size_hw[0],
        "bfloat16": has_bfloat16(engine.device),
        "device": device_name(engine),
    }


def ratio(a: list[float], b: list[float]) -> float:
    """Median of a / b over the images."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def predict(engine: TorchvisionEngine, image: np.ndarray) -> None:
    """One ordinary prediction, as fast as ours."""
    [encoded] = engine.encode([image])
    engine.decode(encoded)


def scored(engine: TorchvisionEngine, image: np.ndarray, seed: int, *, exact: bool) -> float:
    [encoded] = engine.encode([image], exact=exact)
    return score(engine, encoded, ScoringConfig(PASSES, exact=exact), seeded(engine, seed)).certainty


def seeded(engine: TorchvisionEngine, seed: int) -> torch.Generator:
    return torch.Generator(engine.device).manual_seed(seed)


def now(engine: TorchvisionEngine) -> float:
    if engine.device.type == "cuda":
        torch.cuda.synchronize(engine.device)
    return time.perf_counter()


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation of two lists without ties."""
    return float(np.corrcoef(a.argsort().argsort(), b.argsort().argsort())[0, 1])


def device_name(engine: TorchvisionEngine) -> str:
    if engine.device.type == "cuda":
        return torch.cuda.get_device_name(engine.device)
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    main()
