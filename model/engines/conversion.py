"""Detectron2's weights as a checkpoint of this project: one that names its network and its classes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from model import checkpoints
from model.engines.base import EngineConfig
from model.engines.detectron2 import weights as detectron2_weights
from model.engines.detectron2.configs import is_config
from model.engines.torchvision.engine import TorchvisionEngine
from model.errors import BadCheckpoint, BadEngine

SEED = 0
"""Of what the weights of a backbone alone lack."""


@dataclass(frozen=True)
class Conversion:
    """What was converted: the network's name, its classes, and whether the file held no more than a backbone."""

    network: str
    classes: tuple[str, ...]
    is_backbone_alone: bool


def convert(source: Path, config: str, classes: Sequence[str] | None, out: Path) -> Conversion:
    """Write the weights of a `.pth` or `.pkl` file, trained with a Detectron2 config, as a `.safetensors` file.

    Nothing in the source is executed. Raises BadEngine or BadCheckpoint if the config cannot be reproduced, or the
    weights are others' or know another number of classes.
    """
    if not is_config(config):
        raise BadEngine(f"--config must be a Detectron2 config, a model-zoo name or a YAML file, got {config!r}")
    if out.suffix != ".safetensors" or not out.parent.is_dir():
        raise BadCheckpoint(f"wanted a .safetensors file in a folder that exists, got {out}; choose another --out")
    tensors = detectron2_weights.read(source)
    if not detectron2_weights.is_detectron2(tensors):
        raise BadCheckpoint(f"wanted Detectron2's weights in {source}, got other names, such as {min(tensors)!r}")
    names = detectron2_weights.class_names(tensors, None if classes is None else tuple(classes))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        engine = TorchvisionEngine(names, EngineConfig(network=config))
    engine.load_tensors(tensors, names)
    metadata = {
        "engine": engine.name,
        "classes": json.dumps(names),
        "config": json.dumps(asdict(engine.config)),
        "source": source.name,
    }
    checkpoints.save(out, engine.tensors(), metadata)
    return Conversion(config, names, detectron2_weights.num_classes(tensors) is None)
