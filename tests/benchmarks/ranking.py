"""What ordering a queue costs: seconds and peak memory of each strategy by the number of images.

    python -m tests.benchmarks.ranking [--images 1000,10000,100000] [--strategies uncertainty,coverage] [--json FILE]

Images of OBJECTS objects each, their features (FEATURES numbers, float16 as they are kept) around a random centre for
each of CLASSES classes; ANNOTATED objects are known. Scoring them is not part of it. Memory is what is allocated beyond
the images themselves.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
import tracemalloc
from pathlib import Path

import numpy as np

from model.files import write_json
from sampling.coverage import Known, ObjectsOfImage
from sampling.ranking import Candidate, Moment, RankingConfig, rank
from sampling.strategies import STRATEGIES

OBJECTS, FEATURES, CLASSES, ANNOTATED = 3, 864, 5, 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="1000,10000,100000")
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report: dict[str, object] = {"device": f"{platform.machine()}, numpy {np.__version__}"}
    for count in map(int, options.images.split(",")):
        candidates, known = made(count)
        report[str(count)] = {name: cost(name, candidates, known) for name in options.strategies.split(",")}
        print(count, json.dumps(report[str(count)]), flush=True)
    if options.json is not None:
        write_json(options.json, report)


def made(count: int) -> tuple[list[Candidate], Known]:
    """Candidates that show objects of random classes, and what is annotated."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CLASSES, FEATURES)).astype(np.float32)

    def features(classes: np.ndarray) -> np.ndarray:
        return (centres[classes] + rng.normal(size=(len(classes), FEATURES)).astype(np.float32)).astype(np.float16)

    candidates = []
    for key in range(count):
        classes = rng.integers(0, CLASSES, OBJECTS)
        probabilities = rng.dirichlet(np.ones(CLASSES), OBJECTS).astype(np.float16)
        objects = ObjectsOfImage(features(classes), probabilities, rng.random(OBJECTS).astype(np.float16))
        counts = np.bincount(classes, minlength=CLASSES).tolist()
        candidates.append(Candidate(key, float(rng.random()), False, counts, objects.features.mean(0), objects))
    return candidates, Known(features(rng.integers(0, CLASSES, ANNOTATED)), 0.5)


def cost(strategy: str, candidates: list[Candidate], known: Known) -> dict[str, float]:
    """Seconds, and the peak of a second run in which memory is counted."""
    config, moment = RankingConfig(strategy=strategy), Moment(2, known=known)
    started = time.perf_counter()
    rank(candidates, config, 1, moment)
    seconds = time.perf_counter() - started
    tracemalloc.start()
    rank(candidates, config, 1, moment)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {"seconds": round(seconds, 2), "peak_mb": round(peak / 1e6)}


if __name__ == "__main__":
    main()
