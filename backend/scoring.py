"""One image scored by an engine: its certainty by MC dropout, and its pre-label."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from backend.labels import LabelConfig
from backend.predictions import instances_to_regions
from model.engines.base import Engine
from sampling.mc_dropout import ScoringConfig, score


@dataclass(frozen=True)
class Scored:
    """certainty 0..1, None where nothing was found in any pass; regions as Label Studio's."""

    certainty: float | None
    regions: list[dict[str, Any]]


def score_image(engine: Engine, image: np.ndarray, labels: LabelConfig, config: ScoringConfig, seed: int) -> Scored:
    """Backbone and proposals once, then the ordinary prediction for the regions and the passes for the certainty.

    An object that is surely there is outlined even if its class is in doubt: with its likeliest label.
    """
    encoded = engine.encode(image)
    (instances,) = engine.decode(encoded, 1, any_class=True)
    generator = torch.Generator(next(engine.network.parameters()).device).manual_seed(seed)
    certainty = score(engine, encoded, config, generator)
    return Scored(None if np.isnan(certainty) else certainty, instances_to_regions(instances, engine.classes, labels))


def task_seed(version: str, task_id: int) -> int:
    """Seed of a task's passes: the same version gives a task the same certainty again."""
    return int.from_bytes(hashlib.sha256(f"{version}:{task_id}".encode()).digest()[:6], "big")
