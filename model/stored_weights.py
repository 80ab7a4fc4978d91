"""Weights of a registry's versions: what of it needs torch."""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch

from model import checkpoints
from model.registry import Registry, Version, VersionFields


def add_version(registry: Registry, fields: VersionFields, tensors: Mapping[str, torch.Tensor]) -> Version:
    """Store a new version with its weights, whole or not at all; BadVersion if the number is taken.

    The weights carry their classes and engine, so they can be used elsewhere.
    """
    metadata = {
        "version": fields.name,
        "engine": fields.engine,
        "classes": json.dumps(fields.classes),
        "config": json.dumps(fields.config),
    }
    return registry.add(fields, lambda path: checkpoints.save(path, tensors, metadata))


def load_weights(registry: Registry, name: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of one version; BadCheckpoint if they are not the bytes that were stored."""
    version = registry.get(name)
    return checkpoints.load(registry.weights_path(name), sha256=version.weights_sha256)
