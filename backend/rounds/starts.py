"""What a network's first training starts from: weights of COCO or ImageNet, a file, or generated images.

A network that can already tell outlines and textures learns far more from few photos than one that begins with random
weights, whatever the photos show. So one without weights from elsewhere is trained once on generated fields; and one
whose backbone has seen ImageNet may begin with heads that were.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from backend.generated.broccoli import LABELS, GeneratedImage, generate
from model import checkpoints
from model.engines.base import Engine, EngineConfig, Keeping
from model.engines.detectron2.configs import is_config
from model.engines.loader import NAMES, build_engine, check_file, load_pretrained
from model.errors import BadCheckpoint
from model.geometry import mask_to_polygons
from model.records import Outline, Record
from model.training.loop import Progress, TrainingConfig, place_in_group, train

logger = logging.getLogger(__name__)

USUAL_STARTS = {"nano": "generated", "lite": "imagenet"}
"""`pretrained_weights` where the project's file says nothing, by the torchvision engine's network; any other takes the
best that it has: COCO's weights, ImageNet's, or none.
"""

IMAGES, SEED = 160, 11
TRAINING = TrainingConfig(iterations=400, learning_rate=5e-4, batch_size=4, warmup_iterations=40, seed=SEED)
CLASSES = tuple(f"generated {label}" for label in LABELS)
"""Names that no project's labels have, so that no output of a class is taken over."""


def usual_start(engine: Engine) -> str:
    """What a network starts from where nobody says otherwise, as `pretrained_weights` has it."""
    if engine.name == "torchvision" and engine.config.network in USUAL_STARTS:
        return USUAL_STARTS[engine.config.network]
    return "COCO" if engine.has_coco_weights else "imagenet" if engine.has_imagenet_weights else "none"


def keeping_of(engine: Engine, wanted: str | None) -> Keeping:
    """What training leaves of the backbone; nothing where `pretrained_weights` leave it without having seen photos."""
    start = wanted or usual_start(engine)
    is_blind = start == "none" or (start == "generated" and not engine.has_imagenet_weights)
    return Keeping() if is_blind else engine.keeping


def check_start(wanted: str | None, network: str | None, engine: str, classes: Sequence[str]) -> None:
    """What a first training would find wrong with a network and its weights, as far as that shows without a download.

    A file is opened, and fitted into torchvision's network if one is named. Raises BadCheckpoint or BadEngine.
    """
    start = wanted or "none"
    if engine != "torchvision" or network is None:  # what is trained there shows only there
        if start not in NAMES:
            check_file(start)
        return
    fresh = build_engine(engine, tuple(classes), EngineConfig(network))
    has_it = {"COCO": fresh.has_coco_weights, "imagenet": fresh.has_imagenet_weights}.get(start, True)
    if start not in NAMES or not has_it:
        load_pretrained(fresh, start, fresh.classes)  # which says what it has in place of them
    _check_generated(start, network)


def _check_generated(start: str, network: str) -> None:
    if start == "generated" and is_config(network):
        raise BadCheckpoint(
            f"pretrained_weights cannot be generated for {network}, which starts from weights of Detectron2's; name "
            "their file, or set none"
        )


def load_start(
    engine: Engine, wanted: str | None, folder: Path, device: str, tell: Callable[[Progress], None] = lambda p: None
) -> None:
    """Give a fresh engine the weights that `pretrained_weights` names, or its usual ones for None.

    `folder` keeps what was trained on generated images. Raises BadCheckpoint or BadEngine.
    """
    start = wanted or usual_start(engine)
    if start != "generated":
        load_pretrained(engine, start, engine.classes)
        return
    _check_generated(start, engine.config.network)
    engine.load_tensors(generated_start(engine, folder, device, tell), CLASSES)


def generated_start(
    like: Engine, folder: Path, device: str, tell: Callable[[Progress], None]
) -> dict[str, torch.Tensor]:
    """Weights for an engine's network, from the folder or trained now on generated images (a minute or two on a CPU).

    A backbone with weights of ImageNet begins with them, and keeps of them what it keeps in any training. A killed
    training goes on from its last minute. A group of processes (torch.distributed) has to call it together.
    """
    usual = EngineConfig(like.config.network, like.config.dropout_probability, network_facts=like.config.network_facts)
    keeping = keeping_of(like, "generated")
    training = replace(TRAINING, freeze_at=keeping.freeze_at, backbone_rate=keeping.backbone_rate)
    path = folder / f"{usual.network.replace('/', '-')}-{_digest(usual, training)}.safetensors"
    if path.exists():
        try:
            return checkpoints.load(path)[0]
        except BadCheckpoint as err:
            logger.warning("the generated start is made anew: %s", err)
    logger.info("%s is trained on generated images first; later projects start from the same weights", usual.network)
    torch.manual_seed(SEED)
    engine = build_engine(like.name, CLASSES, usual)
    if engine.has_imagenet_weights:
        engine.load_imagenet()
    engine.to(device)
    made = list(generate(IMAGES, SEED, shares=(1 / len(LABELS),) * len(LABELS)))
    records = [_record(str(index), image) for index, image in enumerate(made)]
    checkpoint = path.with_suffix(".training")
    folder.mkdir(parents=True, exist_ok=True)
    train(engine, records, lambda name: made[int(name)].image, training, tell, checkpoint=checkpoint)
    if place_in_group()[0] == 0:
        checkpoints.save(path, engine.tensors(), {})
        checkpoint.unlink(missing_ok=True)
    return engine.tensors()


def _digest(config: EngineConfig, training: TrainingConfig) -> str:
    """What the weights depend on, so that they are made anew when it changes."""
    facts = json.dumps([asdict(config), asdict(training), IMAGES, SEED])
    return hashlib.sha256(facts.encode()).hexdigest()[:12]


def _record(name: str, made: GeneratedImage) -> Record:
    outlines = (
        Outline(f"generated {label}", mask_to_polygons(mask))
        for label, mask in zip(made.labels, made.masks, strict=True)
    )
    return Record(name, made.image.shape[:2], tuple(outlines))
