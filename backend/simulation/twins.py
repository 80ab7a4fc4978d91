"""Which images of a simulation are near copies of one another, found as projects find them, and kept in its folder."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from backend.simulation.object_features import features_of
from backend.simulation.options import SimulationOptions
from backend.simulation.world import World
from model.engines.torchvision.frozen import FrozenBackbone
from model.files import read_json, write_json
from model.near_copies import Glance, find_near_copies, glance, thumbnail
from sampling.near_copies import Twins

AT_HAND = 4000
"""Glances that are held in memory while images are compared, 70 kB each: a copy is slow to be made anew."""


def twins_of(world: World, options: SimulationOptions, folder: Path) -> Twins:
    """Near copies of each image that has any, by their places; from the folder if they were found before."""
    path = folder / f"near_copies_{_digest(world)}.json"
    if not path.exists():
        whole = features_of(world, folder).whole if options.judge == "linear" else whole_features(world)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, _found(world, whole), indent=None)
    return {int(place): frozenset(others) for place, others in read_json(path).items()}


def whole_features(world: World) -> np.ndarray:
    """What the frozen backbone sees in each image as a whole, (n, d) float32."""
    backbone = FrozenBackbone(world.device)
    records = tqdm(world.records, desc="features", unit="image")
    return np.stack([backbone.maps(world.image(record.image)).of_image() for record in records])


def _found(world: World, whole: np.ndarray) -> dict[int, list[int]]:
    """The near copies by place, each pair both ways."""

    @lru_cache(AT_HAND)
    def look(place: int) -> Glance:
        return glance(thumbnail(world.image(world.records[place].image)))

    twins: dict[int, set[int]] = {}
    compared = find_near_copies(whole, range(len(whole)), look)
    for place, others in tqdm(compared, desc="looking for near copies", total=len(whole), unit="image"):
        for other in others:
            twins.setdefault(place, set()).add(other)
            twins.setdefault(other, set()).add(place)
    return {place: sorted(others) for place, others in sorted(twins.items())}


def _digest(world: World) -> str:
    """What changes with the images' names and sizes."""
    named = "\n".join(f"{record.image} {record.size_hw}" for record in world.records)
    return hashlib.sha256(named.encode()).hexdigest()[:16]
