"""How a round trains: decided once from settings, data and served version, and kept in the round's folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from backend.project.workplace import Workplace
from backend.rounds.folder import Round
from backend.rounds.snapshots import Snapshot
from model.engines.base import EngineConfig
from model.engines.loader import build_engine, with_input
from model.files import read_json, write_json
from model.records import Record
from model.registry import Version
from model.training.loop import TrainingConfig

INPUT_CHANGE = 1.5
"""A version starts from its parent's input size and anchors unless they should change by more than this factor."""


@dataclass(frozen=True)
class Plan:
    """How a round trains, decided once when it begins and kept in its folder.

    parent      version that it starts from, None for pretrained weights
    new_images  records that the parent was not trained on; empty without a parent
    """

    classes: tuple[str, ...]
    parent: str | None
    engine: EngineConfig
    training: TrainingConfig
    new_images: frozenset[str] = frozenset()

    def in_words(self, images: int) -> str:
        """One line for the log."""
        size = "{} to {} px".format(*self.engine.image_size) if self.engine.image_size else "its usual size"
        return (
            f"{images} images, {self.engine.network} at {size} from {self.parent or 'pretrained weights'}, at most "
            f"{self.training.iterations} steps of {self.training.batch_size} images, learning rate "
            f"{self.training.learning_rate:.2g}, rare classes {self.training.repeat_factor_smallest_class:.1f} times"
        )


def plan_round(place: Workplace, current: Round, records: Sequence[Record]) -> Plan:
    """How a round trains on its records: as decided when it began, else decided now."""
    if _path(current).exists():
        return read_plan(current)
    plan = _make_plan(place, current, records)
    write_json(_path(current), {**asdict(plan), "new_images": sorted(plan.new_images)})
    return plan


def read_plan(current: Round) -> Plan:
    """The plan of a round that has begun to train."""
    stored = read_json(_path(current))
    training: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored["training"].items()}
    return Plan(
        classes=tuple(stored["classes"]),
        parent=stored["parent"],
        engine=with_input(EngineConfig(**stored["engine"]), stored["engine"]),
        training=TrainingConfig(**training),
        new_images=frozenset(stored["new_images"]),
    )


def _path(current: Round) -> Path:
    return current.path / "plan.json"


def _make_plan(place: Workplace, current: Round, records: Sequence[Record]) -> Plan:
    device = device_of(place)
    classes = current.labels().classes
    usual = _with_known_network(place, place.config.engine_config(device))
    engine = build_engine(place.config.engine, classes, usual)
    config = place.config.adapted(engine.config, engine.input_range, records)
    parent = _parent(place, config)
    if parent is not None:
        config = _kept_input(config, with_input(config, parent.config))
    training = place.config.training_config(
        config.network, records, warm=parent is not None, seed=current.state.number, device=device
    )
    new = _new_images(place, current, parent) if parent is not None else frozenset()
    return Plan(classes, parent.name if parent else None, config, training, new)


def _with_known_network(place: Workplace, config: EngineConfig) -> EngineConfig:
    """The config; where its network's own file is gone, with what the served version knows of that network."""
    served = place.folder.registry.current()
    if served is None or Path(config.network).exists():
        return config
    version = place.folder.registry.get(served)
    is_same = (version.engine, version.config["network"]) == (place.config.engine, config.network)
    return replace(config, network_facts=version.config.get("network_facts")) if is_same else config


def _parent(place: Workplace, config: EngineConfig) -> Version | None:
    """The served version, if training may start from it; a changed engine starts from its own weights."""
    served = place.folder.registry.current()
    if served is None or not place.config.warm_start:
        return None
    version = place.folder.registry.get(served)
    theirs = (version.engine, version.config["network"], version.config.get("network_facts"))
    return version if theirs == (place.config.engine, config.network, config.network_facts) else None


def _kept_input(wanted: EngineConfig, parents: EngineConfig) -> EngineConfig:
    """The parent's input size and anchors, unless the objects have become clearly smaller or larger since."""
    if wanted.image_size is None or parents.image_size is None:
        return wanted
    ratios = [wanted.image_size[0] / parents.image_size[0]]
    if wanted.anchor_sizes and parents.anchor_sizes:
        ratios.append(wanted.anchor_sizes[0] / parents.anchor_sizes[0])
    is_near = all(1 / INPUT_CHANGE < ratio < INPUT_CHANGE for ratio in ratios)
    return parents if is_near else wanted


def _new_images(place: Workplace, current: Round, parent: Version) -> frozenset[str]:
    """Records of this round whose annotation the parent was not trained on."""
    path = place.folder.rounds / str(parent.number)
    before = Round(path).snapshot() if path.is_dir() else None
    known = {(entry.task, entry.digest) for entry in before.entries} if before else set()
    now = current.snapshot() or Snapshot(())
    return frozenset(str(entry.task) for entry in now.entries if (entry.task, entry.digest) not in known)


def device_of(place: Workplace) -> str:
    """The device to compute on: the project's setting, else the GPU if there is one."""
    return place.config.device or ("cuda" if torch.cuda.is_available() else "cpu")
