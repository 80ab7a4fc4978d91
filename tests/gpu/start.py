"""A network that finds something: trained briefly on the device, for the parts that score with it."""

from __future__ import annotations

import statistics

import torch

from backend.generated.broccoli import LABELS
from model import checkpoints
from model.engines.base import EngineConfig
from model.engines.torchvision.engine import TorchvisionEngine
from tests.benchmarks.fields import fields, resize_to, train_on_fields
from tests.gpu.checks import Job, Measured, Missing

TILES = 2
"""Images of 2 x 2 fields with one to four heads each: about as many objects as MaskAL's photos show."""


def check(job: Job) -> None:
    """The training, and that it finds something."""
    job.check("trained briefly", lambda: trained(job))


def trained(job: Job) -> Measured:
    scale = job.scale
    torch.manual_seed(0)
    engine = built(job)
    resize_to(engine, scale.start_size)
    result = train_on_fields(engine, scale.start_fields, scale.start_size, scale.start_steps)
    checkpoints.save(job.start, engine.tensors(), {})
    resize_to(engine, scale.score_size)
    images = [image for image, _ in fields(5, 98, scale.score_size, TILES)]
    found = [len(engine.decode(encoded)) for encoded in engine.encode(images)]
    figures = {
        "network": scale.network,
        "steps": result.steps,
        "seconds": result.seconds,
        "loss": round(result.loss, 3),
        "objects": statistics.median(found),
    }
    return Measured(figures, "" if any(found) else "nothing is found after the training")


def built(job: Job) -> TorchvisionEngine:
    config = EngineConfig(network=job.scale.network, confidence_threshold=job.scale.confidence_threshold)
    return TorchvisionEngine(LABELS, config).to(str(job.device))


def started(job: Job) -> TorchvisionEngine:
    """The network as it was trained, for images of the size that is scored."""
    if not job.start.exists():
        raise Missing("there is no trained network; see the part `start`")
    engine = built(job)
    engine.load_tensors(checkpoints.load(job.start)[0], LABELS)
    resize_to(engine, job.scale.score_size)
    return engine
