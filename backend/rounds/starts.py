"""What a network's first training starts from: COCO's weights, a file, or generated images.

A network that can already tell outlines and textures learns far more from few photos than one that begins with random
weights, whatever the photos show. So a network without weights from elsewhere is trained once on generated fields.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from backend.generated.broccoli import LABELS, GeneratedImage, generate
from model import checkpoints
from model.engines.base import Engine, EngineConfig
from model.engines.detectron2.configs import is_config
from model.engines.loader import build_engine, load_pretrained
from model.errors import BadCheckpoint
from model.geometry import mask_to_polygons
from model.records import Outline, Record
from model.training.loop import Progress, TrainingConfig, place_in_group, train

logger = logging.getLogger(__name__)

GENERATED_FOR = ("torchvision",)
"""Engines whose networks start from generated images where there is nothing better."""

IMAGES, SEED = 160, 11
TRAINING = TrainingConfig(iterations=400, learning_rate=5e-4, batch_size=4, warmup_iterations=40, seed=SEED)
CLASSES = tuple(f"generated {label}" for label in LABELS)
"""Names that no project's labels have, so that no output of a class is taken over."""


def load_start(
    engine: Engine, wanted: str | None, folder: Path, device: str, tell: Callable[[Progress], None] = lambda p: None
) -> None:
    """Give a fresh engine the weights that `pretrained_weights` names, or the best that there are for None.

    `folder` keeps what was trained on generated images. Raises BadCheckpoint or BadEngine.
    """
    if wanted is None and engine.has_coco_weights:
        try:
            engine.load_coco()
        except BadCheckpoint as err:
            logger.warning("training starts from random weights: %s", err)
    elif wanted == "generated" or (wanted is None and engine.name in GENERATED_FOR and not _is_detectron2(engine)):
        if _is_detectron2(engine):
            raise BadCheckpoint(
                f"pretrained_weights cannot be generated for {engine.config.network}, which starts from weights of "
                "Detectron2's; name their file, or set none"
            )
        engine.load_tensors(generated_start(engine, folder, device, tell), CLASSES)
    elif wanted is not None:
        load_pretrained(engine, wanted, engine.classes)


def generated_start(
    like: Engine, folder: Path, device: str, tell: Callable[[Progress], None]
) -> dict[str, torch.Tensor]:
    """Weights for an engine's network, from the folder or trained now on generated images (a minute or two on a CPU).

    A killed training goes on from its last minute. A group of processes (torch.distributed) has to call it together.
    """
    usual = EngineConfig(like.config.network, like.config.dropout_probability)
    path = folder / f"{usual.network}-{_digest(usual)}.safetensors"
    if path.exists():
        try:
            return checkpoints.load(path)[0]
        except BadCheckpoint as err:
            logger.warning("the generated start is made anew: %s", err)
    logger.info("%s is trained on generated images first; later projects start from the same weights", usual.network)
    torch.manual_seed(SEED)
    engine = build_engine(like.name, CLASSES, usual).to(device)
    made = list(generate(IMAGES, SEED, shares=(1 / len(LABELS),) * len(LABELS)))
    records = [_record(str(index), image) for index, image in enumerate(made)]
    checkpoint = path.with_suffix(".training")
    folder.mkdir(parents=True, exist_ok=True)
    train(engine, records, lambda name: made[int(name)].image, TRAINING, tell, checkpoint=checkpoint)
    if place_in_group()[0] == 0:
        checkpoints.save(path, engine.tensors(), {})
        checkpoint.unlink(missing_ok=True)
    return engine.tensors()


def _is_detectron2(engine: Engine) -> bool:
    """Whether the network is Detectron2's: too large to train from nothing, and there are weights to be had."""
    return is_config(engine.config.network)


def _digest(config: EngineConfig) -> str:
    """What the weights depend on, so that they are made anew when it changes."""
    facts = json.dumps([asdict(config), asdict(TRAINING), IMAGES, SEED])
    return hashlib.sha256(facts.encode()).hexdigest()[:12]


def _record(name: str, made: GeneratedImage) -> Record:
    outlines = (
        Outline(f"generated {label}", mask_to_polygons(mask))
        for label, mask in zip(made.labels, made.masks, strict=True)
    )
    return Record(name, made.image.shape[:2], tuple(outlines))
