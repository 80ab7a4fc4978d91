"""Images a second in training: ours against torchvision's reference loop."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from backend.generated.broccoli import LABELS
from model.engines.base import EngineConfig
from model.engines.torchvision.engine import TorchvisionEngine
from model.training.loop import TrainingConfig
from tests.benchmarks.fields import resize_to
from tests.benchmarks.torchvision_loop import BATCH, WARM_STEPS
from tests.benchmarks.training_race import race, write_photos
from tests.gpu.checks import Job, Measured

OPTIMIZERS = {"nano": ("adamw", 5e-4), "lite": ("adamw", 5e-4)}
USUAL = ("sgd", 5e-3)
WORKERS = {"cpu": 1, "cuda": 4}


def round_config(network: str, device: str, steps: int) -> TrainingConfig:
    """How a project's round trains that network where nothing is set, but for its length."""
    optimizer, rate = OPTIMIZERS.get(network, USUAL)
    return TrainingConfig(
        iterations=steps,
        learning_rate=rate,
        batch_size=BATCH,
        warmup_iterations=min(100, steps // 10),
        optimizer=optimizer,
        num_workers=WORKERS[device],
    )


def check(job: Job) -> None:
    """A race for each network."""
    for network, size in job.scale.races.items():
        job.check(network, partial(raced, job, network, size), needs_s=25)


def raced(job: Job, network: str, size: int) -> Measured:
    def build() -> TorchvisionEngine:
        engine = TorchvisionEngine(LABELS, EngineConfig(network=network))
        resize_to(engine, size)
        return engine.to(str(job.device))

    config = round_config(network, job.device.type, WARM_STEPS + job.scale.race_steps)
    with tempfile.TemporaryDirectory(dir=job.folder) as folder:
        records = write_photos(Path(folder), job.scale.race_photos, size)
        figures = race(build, records, Path(folder), config, job.scale.race_turns)
    is_slower = job.device.type == "cuda" and figures["ratio"] < 1
    return Measured(figures, "ours is slower than the reference" if is_slower else "")
