"""How a round trains: decided once from settings, data and served version, and kept in the round's folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from backend.counted import counted
from backend.project.config import ProjectConfig
from backend.project.folder import ProjectFolder
from backend.project.workplace import Workplace
from backend.rounds.devices import device_of
from backend.rounds.folder import PLAN, Round
from backend.rounds.snapshots import Snapshot
from backend.rounds.starts import keeping_of
from model.engines.base import EngineConfig
from model.engines.loader import build_engine, with_input
from model.errors import BadCheckpoint
from model.files import write_json
from model.records import Record
from model.registry import Version
from model.stored_json import read_as
from model.training.loop import TrainingConfig

logger = logging.getLogger(__name__)

INPUT_CHANGE = 1.5
"""A version starts from its parent's input size and anchors unless they should change by more than this factor."""


NETWORK_AT_HAND = "lite"
"""What a project gets that has chosen nothing where COCO's weights cannot be downloaded."""

BETTER = {"nano": "lite"}
"""What has taken the place of a network for new projects."""


@dataclass(frozen=True)
class Plan:
    """How a round trains, decided once when it begins and kept in its folder.

    parent      version that it starts from, None for pretrained weights
    new_images  records that the parent was not trained on; empty without a parent
    note        why it is not the network that the device usually gets; mostly empty
    """

    classes: tuple[str, ...]
    parent: str | None
    engine: EngineConfig
    training: TrainingConfig
    new_images: frozenset[str] = frozenset()
    note: str = ""

    def in_words(self, images: int) -> str:
        """One line for the log."""
        size = "{} to {} px".format(*self.engine.image_size) if self.engine.image_size else "its usual size"
        return (
            f"{counted(images, 'image')}, {self.engine.network} at {size} from {self.parent or 'pretrained weights'}, "
            f"at most {counted(self.training.iterations, 'step')} of {counted(self.training.batch_size, 'image')}, "
            f"learning rate {self.training.learning_rate:.2g}, "
            f"rare classes {self.training.repeat_factor_smallest_class:.1f} times"
        )


def plan_round(place: Workplace, current: Round, records: Sequence[Record]) -> Plan:
    """How a round trains on its records: as decided when it began, else decided now."""
    known = find_plan(current)
    if known is not None:
        return known
    plan = _make_plan(place, current, records)
    write_json(_path(current), {**asdict(plan), "new_images": sorted(plan.new_images)})
    return plan


def find_plan(current: Round) -> Plan | None:
    """The plan of a round; None before it has begun to train."""
    return read_plan(current) if _path(current).exists() else None


def read_plan(current: Round) -> Plan:
    """The plan of a round that has begun to train; DamagedFile if it cannot be read."""
    return read_as(_path(current), Plan)


def _path(current: Round) -> Path:
    return current.path / PLAN


def _make_plan(place: Workplace, current: Round, records: Sequence[Record]) -> Plan:
    device = device_of(place)
    classes = current.labels().classes
    usual = _with_known_network(place, place.config.engine_config(device))
    usual, note = _with_weights_at_hand(place, usual, classes)
    engine = build_engine(place.config.engine, classes, usual)
    config = place.config.adapted(engine.config, engine.input_range, records)
    parent = _parent(place, config)
    if parent is not None:
        config = _kept_input(config, with_input(config, parent.config))
    training = place.config.training_config(
        config.network,
        records,
        warm=parent is not None,
        seed=current.state.number,
        device=device,
        keeping=keeping_of(engine, place.config.pretrained_weights),
    )
    new = _new_images(place, current, parent) if parent is not None else frozenset()
    return Plan(classes, parent.name if parent else None, config, training, new, note)


def _with_known_network(place: Workplace, config: EngineConfig) -> EngineConfig:
    """The config with the served version's network where nobody chose one, or where the chosen one's file is gone."""
    served = place.folder.registry.current()
    if served is None:
        return config
    version = place.folder.registry.get(served)
    network = version.config["network"] if place.config.network_config is None else config.network
    is_same = (version.engine, version.config["network"]) == (place.config.engine, network)
    if not is_same or (place.config.network_config is not None and Path(network).exists()):
        return config
    return replace(config, network=network, network_facts=version.config.get("network_facts"))


def _with_weights_at_hand(place: Workplace, config: EngineConfig, classes: Sequence[str]) -> tuple[EngineConfig, str]:
    """The config, or where nobody chose anything and COCO's weights cannot be had a network whose own are installed.

    And why it is another.
    """
    chosen = (place.config.network_config, place.config.pretrained_weights, place.folder.registry.current())
    if any(value is not None for value in chosen):
        return config, ""
    engine = build_engine(place.config.engine, classes, config)
    if not engine.has_coco_weights:
        return config, ""
    try:
        engine.load_coco()
    except BadCheckpoint as err:
        note = f"{NETWORK_AT_HAND} in place of {config.network}: {err}"
        logger.warning("training starts with %s", note)
        return replace(config, network=NETWORK_AT_HAND), note
    return config, ""


def proposal(config: ProjectConfig, folder: ProjectFolder) -> str | None:
    """One line about a better network than the one that the project goes on with because nobody chose one."""
    registry = folder.registry
    served = registry.current()
    if served is None or config.network_config is not None:
        return None
    version = registry.get(served)
    network = str(version.config.get("network"))
    if version.engine != config.engine or network not in BETTER:
        return None
    return (
        f"goes on with the network {network}; to start the next round with {BETTER[network]}, which has learned to see "
        f"on photos before, set `network_config: {BETTER[network]}` in its settings "
        f"(`maskal config --project {folder.project_id} --set network_config={BETTER[network]}`)"
    )


def _parent(place: Workplace, config: EngineConfig) -> Version | None:
    """The served version, if training may start from it; a changed engine starts from its own weights."""
    served = place.folder.registry.current()
    if served is None or not place.config.warm_start:
        return None
    version = place.folder.registry.get(served)
    theirs = (version.engine, version.config["network"], version.config.get("network_facts"))
    return version if theirs == (place.config.engine, config.network, config.network_facts) else None


def _kept_input(wanted: EngineConfig, parents: EngineConfig) -> EngineConfig:
    """The parent's input size and anchors, unless the objects have become clearly smaller or larger since.

    How many objects are looked for depends on the annotations alone.
    """
    if wanted.image_size is None or parents.image_size is None:
        return wanted
    ratios = [wanted.image_size[0] / parents.image_size[0]]
    if wanted.anchor_sizes and parents.anchor_sizes:
        ratios += [ours / theirs for ours, theirs in zip(wanted.anchor_sizes, parents.anchor_sizes, strict=True)]
    is_near = all(1 / INPUT_CHANGE < ratio < INPUT_CHANGE for ratio in ratios)
    return replace(parents, detections_per_image=wanted.detections_per_image) if is_near else wanted


def _new_images(place: Workplace, current: Round, parent: Version) -> frozenset[str]:
    """Records of this round whose annotation the parent was not trained on."""
    path = place.folder.rounds / str(parent.number)
    before = Round(path).snapshot() if path.is_dir() else None
    known, now = _learned_from(before), _learned_from(current.snapshot())
    return frozenset(str(task) for task, _ in now - known)


def _learned_from(snapshot: Snapshot | None) -> set[tuple[int, str]]:
    """Tasks of a snapshot that are trained on, and digests of their annotations."""
    return {(entry.task, entry.digest) for entry in (snapshot or Snapshot(())).entries if entry.split == "train"}
