"""The engines of a project's versions."""

from __future__ import annotations

from backend.project.workplace import Workplace
from backend.rounds.devices import device_of
from model.engines.base import Engine
from model.engines.loader import load_version


def load_engine(place: Workplace, version: str) -> Engine:
    """The engine of a registered version, with the project's thresholds, on the project's device."""
    stored = place.folder.registry.get(version)
    device = device_of(place)
    return load_version(place.folder.registry, stored, place.config.engine_config(device)).to(device)
