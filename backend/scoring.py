"""One image scored by an engine: its certainty by MC dropout, and its pre-label."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from backend.labels import LabelConfig
from backend.predictions import instances_to_regions
from model.engines.base import Engine
from model.geometry import without_specks
from model.instances import Instances
from sampling.mc_dropout import ScoringConfig, score

MASK_GRID = 28
"""Cells along a side of the mask head's output, which spans an object's box."""


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
    usual = engine.config.confidence_threshold
    lowest = min(usual if c.score_threshold is None else c.score_threshold for c in labels.controls)
    instances = _smoothed(engine.decode(encoded, 1, confidence_threshold=lowest, any_class=True)[0])
    generator = torch.Generator(next(engine.network.parameters()).device).manual_seed(seed)
    certainty = score(engine, encoded, config, generator)
    regions = instances_to_regions(instances, engine.classes, labels, score_threshold=usual)
    return Scored(None if np.isnan(certainty) else certainty, regions)


def _smoothed(instances: Instances) -> Instances:
    masks = [smooth(m, b) for m, b in zip(instances.masks, instances.boxes_xyxy, strict=True)]
    return replace(instances, masks=np.stack(masks)) if masks else instances


def smooth(mask: np.ndarray, box_xyxy: np.ndarray) -> np.ndarray:
    """A mask (h, w) bool without what is finer than the mask head's grid, which is noise and tedious to correct."""
    return without_specks(mask, 1.5 * float(np.max(box_xyxy[2:] - box_xyxy[:2])) / MASK_GRID)


def task_seed(version: str, task_id: int) -> int:
    """Seed of a task's passes: the same version gives a task the same certainty again."""
    return int.from_bytes(hashlib.sha256(f"{version}:{task_id}".encode()).digest()[:6], "big")
