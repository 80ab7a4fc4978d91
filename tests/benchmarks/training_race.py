"""Two ways to train the same network on the same photos, timed in turns: torchvision's reference loop, and ours.

Needs nothing of the backend but generated images.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import torch

from model.engines.torchvision.engine import TorchvisionEngine
from model.records import Record
from model.training.loop import Progress, TrainingConfig, train
from tests.benchmarks.fields import fields
from tests.benchmarks.scoring import device_name, now
from tests.benchmarks.torchvision_loop import BATCH, WARM_STEPS, read, train_plainly


def write_photos(folder: Path, count: int, size: int) -> list[Record]:
    """Generated photos as JPEG files, and their records."""
    records = []
    for index, (image, outlines) in enumerate(fields(count, 7, size, 2)):
        name = f"{index:03d}.jpg"
        cv2.imwrite(str(folder / name), image[..., ::-1])
        records.append(Record(name, image.shape[:2], outlines))
    return records


def race(
    build: Callable[[], TorchvisionEngine],
    records: Sequence[Record],
    folder: Path,
    config: TrainingConfig,
    turns: int,
) -> dict[str, Any]:
    """Images a second of both ways, medians over the turns; `config` is ours, its first five steps are not counted."""
    steps = config.iterations - WARM_STEPS
    seconds: dict[str, list[float]] = {"reference": [], "ours": []}
    for _ in range(turns):
        for name, taken in seconds.items():
            torch.manual_seed(0)
            engine = build()
            if name == "reference":
                taken.append(train_plainly(engine, records, folder, steps))
            else:
                taken.append(train_ours(engine, records, folder, config))
    rates = {name: steps * BATCH / statistics.median(taken) for name, taken in seconds.items()}
    return {
        "images_per_s": {name: round(rate, 3) for name, rate in rates.items()},
        "ratio": round(statistics.median(a / b for a, b in zip(*seconds.values(), strict=True)), 3),
        "seconds": {name: [round(s, 3) for s in taken] for name, taken in seconds.items()},
        "network": engine.config.network,
        "size": engine.training_size_hw[0],
        "device": device_name(engine),
    }


def train_ours(engine: TorchvisionEngine, records: Sequence[Record], folder: Path, config: TrainingConfig) -> float:
    """Seconds that a round's training takes, from the fifth step to the last."""
    moments: list[float] = []

    def note(progress: Progress) -> None:
        if progress.step in (WARM_STEPS, config.iterations):
            moments.append(now(engine))

    train(engine, records, lambda name: read(folder / name), config, note)
    return moments[1] - moments[0]
