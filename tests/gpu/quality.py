"""Mask AP after a short training on a small set: networks from nothing, `lite` from its ImageNet weights."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from backend.generated.broccoli import LABELS
from model.engines.base import EngineConfig
from model.engines.loader import load_pretrained
from model.engines.torchvision.engine import TorchvisionEngine
from model.errors import BadEngine
from model.judging.evaluation import EVALUATION_THRESHOLD, detections_of, evaluate, truth_of
from model.records import Record
from model.training.loop import train
from tests.benchmarks.fields import fields
from tests.gpu.checks import Job, Measured, NotApplicable
from tests.gpu.training import round_config

STARTS = {"lite": "imagenet"}

Photos = dict[str, np.ndarray]


def check(job: Job) -> None:
    """A training and its mask AP for each network."""
    for network, steps in job.scale.learned.items():
        job.check(network, partial(learned, job, network, steps), needs_s=20)


def learned(job: Job, network: str, steps: int) -> Measured:
    scale = job.scale
    torch.manual_seed(0)
    config = EngineConfig(network=network, image_size=(scale.learn_size, scale.learn_size))
    try:
        engine = TorchvisionEngine(LABELS, config)
    except BadEngine as err:
        raise NotApplicable(str(err)) from err
    start = STARTS.get(network, "none")
    load_pretrained(engine, start, LABELS)
    engine.to(str(job.device))
    images, records = generated(scale.learn_images, 11, scale.learn_size)
    result = train(engine, records, images.__getitem__, round_config(network, job.device.type, steps))
    aps = judged(engine, *generated(scale.judged, 12, scale.learn_size))
    figures = {
        "start": start,
        "images": len(records),
        "steps": result.steps,
        "seconds": result.seconds,
        "loss": round(result.loss, 3),
        **{name: round(value, 4) for name, value in aps.items()},
    }
    if scale.least_ap is not None and aps["mask_ap50_any_class"] < scale.least_ap:
        return Measured(figures, f"wanted a mask AP50 of any class of at least {scale.least_ap}")
    return Measured(figures)


def generated(count: int, seed: int, size: int) -> tuple[Photos, list[Record]]:
    images: Photos = {}
    records = []
    for index, (image, outlines) in enumerate(fields(count, seed, size, 1)):
        images[str(index)] = image
        records.append(Record(str(index), image.shape[:2], outlines))
    return images, records


def judged(engine: TorchvisionEngine, images: Photos, records: Sequence[Record]) -> dict[str, float]:
    """Mask AP on images, with classes and at IoU 0.5 without."""
    found = [
        detections_of(engine.predict(images[record.image], confidence_threshold=EVALUATION_THRESHOLD))
        for record in records
    ]
    result = evaluate([truth_of(record, LABELS) for record in records], found, LABELS)
    return {"mask_ap": result.mask_ap or 0.0, "mask_ap50_any_class": result.mask_ap50_any_class or 0.0}
