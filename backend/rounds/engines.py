"""The engines of a project's versions, and the device that they compute on."""

from __future__ import annotations

import torch

from backend.errors import BadSetting
from backend.project.workplace import Workplace
from backend.rounds.plan import device_of
from model.engines.base import Engine
from model.engines.loader import load_version


def device_in_words(wanted: str | None) -> str:
    """The device that a project computes on, for people; BadSetting if it wants a GPU that is not there."""
    name = wanted or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.device(name)
    except RuntimeError as err:
        raise BadSetting(f"device must be cpu, cuda or cuda:1, got {name!r}; correct it") from err
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
