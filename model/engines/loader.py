"""Engines by name: the one place where an optional engine is imported."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from model import checkpoints
from model.engines.base import Engine, EngineConfig
from model.engines.detectron2 import weights as detectron2_weights
from model.engines.detectron2.configs import SUFFIXES as CONFIG_SUFFIXES
from model.errors import BadCheckpoint, BadEngine
from model.registry import Registry, Version
from model.stored_weights import load_weights

ENGINES = {
    "torchvision": ("model.engines.torchvision.engine", "TorchvisionEngine"),
    "detectron2": ("model.engines.detectron2.engine", "Detectron2Engine"),
    "fake": ("model.engines.fake", "FakeEngine"),
}

WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".pkl")
NAMES = ("none", "COCO", "imagenet", "generated")
"""What `pretrained_weights` may be beside a file."""

ZOO = (
    ", the name of a config in Detectron2's model zoo; download the weights that the zoo lists beside it "
    "(model_final_....pkl) and give the path of that file"
)

GUIDES = {"detectron2": "https://detectron2.readthedocs.io/en/latest/tutorials/install.html"}
"""How engines are installed that this project does not bring along."""


def build_engine(name: str, classes: Sequence[str], config: EngineConfig) -> Engine:
    """A fresh engine with random weights; BadEngine for an unknown name, or one that is not installed."""
    if name not in ENGINES:
        raise BadEngine(f"engine must be one of {', '.join(ENGINES)}, got {name!r}")
    module, attribute = ENGINES[name]
    try:
        build = getattr(import_module(module), attribute)
    except ImportError as err:
        raise BadEngine(
            f"engine {name!r} cannot be imported ({err}); install it into this environment by its own guide "
            f"({GUIDES.get(name)}), or set engine: torchvision, which takes the same configs and weights"
        ) from err
    engine: Engine = build(classes, config)
    return engine


def load_version(registry: Registry, version: Version, config: EngineConfig) -> Engine:
    """The engine of a registered version, with the settings in `config` but the version's own network and input."""
    tensors, _ = load_weights(registry, version.name)
    engine = build_engine(version.engine, version.classes, with_input(config, version.config))
    engine.load_tensors(tensors, version.classes)
    return engine


def with_input(config: EngineConfig, stored: Mapping[str, Any]) -> EngineConfig:
    """A config with a stored one's (JSON) network, input size, anchors and limit, whatever files are gone since."""
    size, anchors = stored.get("image_size"), stored.get("anchor_sizes")
    return replace(
        config,
        network=stored["network"],
        network_facts=stored.get("network_facts"),
        image_size=tuple(size) if size else None,
        anchor_sizes=tuple(anchors) if anchors else None,
        detections_per_image=stored.get("detections_per_image", config.detections_per_image),
    )


def load_pretrained(engine: Engine, weights: str, classes: Sequence[str]) -> None:
    """Start an engine from `weights`: "none", "COCO", "imagenet", or the path of a checkpoint file.

    A `.safetensors` file written by this project names its own classes; any other file is taken as
    trained for `classes`, or for COCO's if it is Detectron2's and knows as many. Raises BadCheckpoint or BadEngine.
    """
    if weights == "none":
        return
    if weights == "COCO":
        engine.load_coco()
        return
    if weights == "imagenet":
        engine.load_imagenet()
        return
    tensors, metadata = check_file(weights)
    engine.load_tensors(tensors, _classes(metadata) or tuple(classes))


def check_file(weights: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors of the file that `weights` names, and what it tells of itself; BadCheckpoint if it is no such file."""
    path = Path(weights)
    if path.suffix.lower() not in WEIGHT_SUFFIXES:
        zoo = ZOO if path.suffix in CONFIG_SUFFIXES else ""
        raise BadCheckpoint(
            f"pretrained_weights must be {', '.join(NAMES)} or a .safetensors, .pth, .pt or .pkl file, "
            f"got {weights!r}{zoo}"
        )
    return _read(path)


def load_alone(path: Path, config: EngineConfig, network: str | None = None, classes: Sequence[str] = ()) -> Engine:
    """The engine of a checkpoint file, with the thresholds in `config`.

    A `.safetensors` file written by this project names its network and classes; of any other they have to be given.
    Raises BadCheckpoint or BadEngine.
    """
    tensors, metadata = _read(path)
    names = _classes(metadata) or tuple(classes)
    if detectron2_weights.is_detectron2(tensors) and "classes" not in metadata:
        names = detectron2_weights.class_names(tensors, names or None)
    if classes and tuple(classes) != names:
        raise BadCheckpoint(f"{path} was trained for {', '.join(names)}, not for {', '.join(classes)}; leave them out")
    stored = json.loads(metadata.get("config", "{}"))
    if not names or not (network or stored):
        raise BadCheckpoint(f"{path} does not tell its network and classes; give them (--network-config, --classes)")
    if stored:
        config = with_input(config, stored)
    if network:
        config = replace(config, network=network, network_facts=None)
    engine = build_engine(metadata.get("engine", "torchvision"), names, config)
    engine.load_tensors(tensors, names)
    return engine


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors of a file, and what it tells of itself."""
    return checkpoints.load(path) if path.suffix.lower() == ".safetensors" else (detectron2_weights.read(path), {})


def _classes(metadata: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(json.loads(metadata.get("classes", "[]")))
