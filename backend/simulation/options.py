"""The options of `maskal simulate`, and what a folder that holds results was begun with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.errors import BadSetting
from backend.project.config import ProjectConfig, read_config
from backend.rounds.devices import choose_device
from backend.settings import Settings
from backend.simulation.imbalance import Imbalance, read_imbalance
from model.files import read_json, write_json
from model.formats import coco
from model.record_images import fully_read
from model.records import Record
from sampling.strategies import STRATEGIES

JUDGES = ("network", "linear")

RANDOM, RANDOM_COPIES_LAST = "random", "random_copies_last"
"""Chance as it is, and chance where near copies come last: a baseline that projects have no use for."""

PLAYED = (*STRATEGIES, RANDOM_COPIES_LAST)


@dataclass(frozen=True)
class SimulationOptions:
    """The options of `maskal simulate`; None leaves the choice to the project's settings.

    strategies   names of PLAYED
    seeds        how many, from first_seed on
    judge        a name of JUDGES: what learns from the images and says how good they are
    redundant    near copies of each photo among those to choose from
    near_copies  where near copies go: "last", or "keep": nowhere else
    imbalance    CLASS=SHARE: how much of all objects to choose from is of that class
    jobs         seeds that are played side by side
    """

    images: Path
    annotations: Path
    out: Path
    strategies: tuple[str, ...]
    seeds: int = 3
    first_seed: int = 1
    initial: int | None = None
    pool_size: int | None = None
    loops: int = 6
    test_share: float = 0.3
    limit: int | None = None
    config: Path | None = None
    device: str | None = None
    judge: str = "network"
    redundant: int = 0
    near_copies: str | None = None
    imbalance: str | None = None
    jobs: int = 1
    max_image_megapixels: float = Settings.max_image_megapixels

    def __post_init__(self) -> None:
        unknown = [name for name in self.strategies if name not in PLAYED]
        if unknown or not self.strategies:
            raise BadSetting(f"strategies must be some of {', '.join(PLAYED)}, got {', '.join(unknown) or 'none'}")
        twice = sorted(name for name in set(self.strategies) if self.strategies.count(name) > 1)
        if twice:
            raise BadSetting(f"strategies must each be named once, got {', '.join(twice)} more often")
        if "coverage" in self.strategies and self.judge == "network" and not self.project_config().has_seen_before:
            raise BadSetting(
                "strategy coverage needs a network that has seen images before; set another engine or other "
                "pretrained_weights, leave it out, or choose --judge linear"
            )
        if self.judge not in JUDGES:
            raise BadSetting(f"judge must be one of {', '.join(JUDGES)}, got {self.judge}")
        if self.redundant < 0:
            raise BadSetting(f"redundant must be a number of near copies from 0, got {self.redundant}")
        if self.near_copies not in (None, "last", "keep"):
            raise BadSetting(f"near_copies must be last or keep, got {self.near_copies}")
        if self.first_seed < 1:
            raise BadSetting(f"first_seed must be a number from 1, got {self.first_seed}")
        if self.wanted_imbalance and self.wanted_imbalance.label not in self.classes:
            raise BadSetting(
                f"imbalance names the class {self.wanted_imbalance.label!r}, {self.annotations.name} has "
                f"{', '.join(self.classes)}"
            )

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that the annotations name."""
        return coco.class_names(self.annotations)

    @property
    def wanted_imbalance(self) -> Imbalance | None:
        """The share of one class, if one is asked for."""
        return read_imbalance(self.imbalance) if self.imbalance else None

    @property
    def seed_numbers(self) -> range:
        """The seeds that are played."""
        return range(self.first_seed, self.first_seed + self.seeds)

    @property
    def moves_near_copies(self) -> bool:
        """Whether near copies come last, as the option says, or else the project's settings."""
        return self.near_copies == "last" or (self.near_copies is None and self.project_config().moves_near_copies)

    def puts_copies_last(self, strategy: str) -> bool:
        """Whether a strategy's near copies come last: plain chance leaves them where they are."""
        return strategy == RANDOM_COPIES_LAST or (strategy != RANDOM and self.moves_near_copies)

    def project_config(self) -> ProjectConfig:
        """The project's settings, with those that are options too."""
        config = read_config(self.config) if self.config else ProjectConfig()
        changes = {"initial_datasize": self.initial, "pool_size": self.pool_size}
        return config.model_copy(update={name: value for name, value in changes.items() if value is not None})

    def computing_device(self) -> str:
        """Where the judge computes."""
        return choose_device(self.device or self.project_config().device)

    def records(self) -> tuple[Record, ...]:
        """The annotated images, without those of which something could not be read."""
        return tuple(fully_read(coco.read(self.annotations, images=self.images))[: self.limit])


def check_settings(options: SimulationOptions, photos: Sequence[Record]) -> None:
    """Refuse to mix runs of different settings, or of annotations that were changed meanwhile, in one folder."""
    settings: dict[str, Any] = {
        "annotations": options.annotations.name,
        "records": len(photos),
        "truth": _digest(photos),
        "test_share": options.test_share,
        "judge": options.judge,
        "redundant": options.redundant,
        "near_copies": "last" if options.moves_near_copies else "keep",
        "imbalance": options.imbalance,
        "config": options.project_config().model_dump(exclude={"strategy", "device"}),
    }
    path = options.out / "settings.json"
    if not path.exists():
        write_json(path, settings)
        return
    earlier = {"near_copies": "keep", "truth": settings["truth"]}  # releases that moved none, and did not look
    if (known := {**earlier, **read_json(path)}) != settings:
        differing = sorted(key for key in settings if known.get(key) != settings[key])
        raise BadSetting(
            f"{options.out} holds a simulation with other settings ({', '.join(differing)}); choose another --out"
        )


def _digest(photos: Sequence[Record]) -> str:
    """What changes with the photos' names and sizes, and with the labels and outlines of their objects."""
    whole = hashlib.sha256()
    for photo in photos:
        whole.update(f"{photo.image} {photo.size_hw} {[outline.label for outline in photo.outlines]}".encode())
        for part in (part for outline in photo.outlines for part in outline.parts):
            for ring in (part.exterior, *part.holes):
                whole.update(ring.tobytes())
    return whole.hexdigest()[:16]
