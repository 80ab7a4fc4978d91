"""The learning half of a round: training an engine on what was annotated, and evaluating it against the others."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import numpy as np
import torch

from backend.annotations import read_outlines
from backend.errors import BadSetting
from backend.round_folder import AnnotatedImage, Round
from backend.workplace import Workplace
from model import checkpoints
from model.engines.base import Engine
from model.engines.loader import build_engine, load_pretrained, load_version
from model.errors import BadCheckpoint
from model.evaluation import Detections, detections_of, evaluate, truth_of
from model.files import read_json, write_json
from model.gate import Contender, judge
from model.records import Record
from model.registry import Version, VersionFields
from model.training import Progress, train

logger = logging.getLogger(__name__)

EVALUATION_THRESHOLD = 0.05
"""Scores from which on detections count for AP, as COCO's evaluation has it."""


def device_of(place: Workplace) -> str:
    """The device to compute on: the project's setting, else the GPU if there is one."""
    return place.config.device or ("cuda" if torch.cuda.is_available() else "cpu")


def device_in_words(wanted: str | None) -> str:
    """The device that a project computes on, for people; BadSetting if it wants a GPU that is not there."""
    name = wanted or ("cuda" if torch.cuda.is_available() else "cpu")
    if not name.startswith("cuda"):
        return f"{name}, {torch.get_num_threads()} threads"
    if not torch.cuda.is_available() or torch.device(name).index not in (None, *range(torch.cuda.device_count())):
        raise BadSetting(
            f"device {name!r} is set but this machine has no such GPU; set `device: cpu` or check the driver"
        )
    return f"{name}, {torch.cuda.get_device_name(name)}"


def load_engine(place: Workplace, version: str) -> Engine:
    """The engine of a registered version, with the project's thresholds, on the project's device."""
    stored = place.folder.registry.get(version)
    device = device_of(place)
    return load_version(place.folder.registry, stored, place.config.engine_config(device)).to(device)


def train_round(place: Workplace, current: Round, report: Callable[[float], None]) -> None:
    """Fine-tune from the served version, or from pretrained weights, and leave the weights in the round's folder."""
    records, uris = _records(place, current, "train")
    engine, parent = _initial_engine(place, current)
    config = place.config.training_config(
        engine.config.network, len(records), warm=parent is not None, seed=current.state.number
    )
    logger.info("round %d: %d images, from %s, %s", current.state.number, len(records), parent or "pretrained", config)

    def tell(progress: Progress) -> None:
        report(progress.step / progress.steps)
        if progress.step % max(1, progress.steps // 10) == 0:
            logger.info(
                "round %d: step %d of %d, loss %.3f, %.2f s a step, %.0f s left",
                current.state.number,
                progress.step,
                progress.steps,
                progress.loss,
                progress.seconds_per_step,
                progress.seconds_per_step * (progress.steps - progress.step),
            )

    started = time.monotonic()
    loss = train(engine, records, _Loader(place, uris), config, tell)
    per_step = (time.monotonic() - started) / config.iterations
    facts = {**asdict(config), "images": len(records), "loss": loss, "seconds_per_step": round(per_step, 3)}
    write_json(current.path / "training.json", facts)
    metadata = {"classes": json.dumps(engine.classes), "network": engine.config.network, "parent": parent or ""}
    checkpoints.save(current.weights, engine.tensors(), metadata)


def evaluate_round(place: Workplace, current: Round) -> Version:
    """Measure the trained weights on today's validation images, ask the gate, and put the version into the registry."""
    registry = place.folder.registry
    if current.version in registry.names():
        return registry.get(current.version)
    tensors, metadata = checkpoints.load(current.weights)
    classes = tuple(json.loads(metadata["classes"]))
    device = device_of(place)
    config = replace(place.config.engine_config(device), network=metadata["network"])
    engine = build_engine(place.config.engine, classes, config)
    engine.load_tensors(tensors, classes)
    records, uris = _records(place, current, "val")
    images = _Loader(place, uris)
    truths = [truth_of(record, classes) for record in records]
    new = Contender(classes, _detect(engine.to(device), records, images))
    others = {name: _contender(place, name, records, images) for name in _opponents(place)}
    verdict = judge(truths, new, others, seed=current.state.number)
    snapshot = current.snapshot()
    fields = VersionFields(
        number=current.state.number,
        classes=classes,
        engine=place.config.engine,
        config=asdict(config),
        metrics={
            **evaluate(truths, new.found, classes).as_dict(),
            "comparisons": list(verdict.comparisons),
            "training": read_json(current.path / "training.json"),
        },
        parent=metadata["parent"] or None,
        data_digest=snapshot.digest if snapshot else "",
        promoted=verdict.is_promoted,
        reason=verdict.reason,
    )
    version = registry.add(fields, tensors)
    current.weights.unlink(missing_ok=True)
    return version


def _initial_engine(place: Workplace, current: Round) -> tuple[Engine, str | None]:
    """The engine to train, and the version it starts from if any; a changed engine starts from its own weights."""
    device = device_of(place)
    config = place.config.engine_config(device)
    classes = current.labels().classes
    engine = build_engine(place.config.engine, classes, config)
    registry = place.folder.registry
    served = registry.current()
    if served is not None and place.config.warm_start:
        parent = registry.get(served)
        if (parent.engine, parent.config["network"]) == (place.config.engine, config.network):
            engine.load_tensors(registry.weights(served)[0], parent.classes)
            return engine.to(device), served
    _load_pretrained(engine, place.config.pretrained_weights, classes)
    return engine.to(device), None


def _load_pretrained(engine: Engine, weights: str | None, classes: Sequence[str]) -> None:
    if weights is not None:
        load_pretrained(engine, weights, classes)
    elif engine.has_coco_weights:
        try:
            load_pretrained(engine, "COCO", classes)
        except BadCheckpoint as err:
            logger.warning("training starts from random weights: %s", err)


def _records(place: Workplace, current: Round, split: str) -> tuple[list[Record], dict[str, str]]:
    """The round's records of a split, and their images' addresses by record."""
    rows: list[AnnotatedImage] = [row for row in current.annotated() if row.split == split]
    labels = current.labels()
    records = []
    for row in rows:
        annotation = {"id": row.annotation, "result": row.regions}
        outlines, _ = read_outlines(annotation, labels, row.size_hw)
        records.append(Record(str(row.task), row.size_hw, outlines))
    return records, {str(row.task): row.uri for row in rows}


class _Loader:
    """Loads a record's image."""

    def __init__(self, place: Workplace, uris: dict[str, str]) -> None:
        self.place, self.uris = place, uris

    def __call__(self, name: str) -> np.ndarray:
        return self.place.images.load(self.uris[name], int(name))


def _detect(engine: Engine, records: Sequence[Record], load_image: _Loader) -> list[Detections]:
    found = (engine.predict(load_image(r.image), confidence_threshold=EVALUATION_THRESHOLD) for r in records)
    return [detections_of(instances) for instances in found]


def _opponents(place: Workplace) -> tuple[str, ...]:
    """The served version and the best promoted one, by the mask AP that each had on its day."""
    registry = place.folder.registry
    promoted = [v for v in registry.versions() if v.promoted]
    best = max(promoted, key=lambda v: v.metrics.get("mask_ap") or 0.0, default=None)
    names = (registry.current(), best.name if best else None)
    return tuple(dict.fromkeys(name for name in names if name is not None))


def _contender(place: Workplace, version: str, records: Sequence[Record], load_image: _Loader) -> Contender:
    engine = load_engine(place, version)
    return Contender(engine.classes, _detect(engine, records, load_image))
