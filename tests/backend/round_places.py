"""Rounds on disk that have read what is annotated, without a Label Studio: photos of leaves in two colours."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from backend.label_studio.labels import parse_label_config
from backend.label_studio.replaced import Replacement
from backend.project.config import ProjectConfig
from backend.project.folder import connect_folder
from backend.project.workplace import Workplace
from backend.rounds.folder import AnnotatedImage, Round
from backend.rounds.snapshots import Entry, Snapshot, write_snapshot
from tests.backend.configs import POLYGONS

SIZE_HW = (60, 80)
COLOURS = {"leaf": (40, 160, 60), "spot": (120, 60, 30)}


class FakeImages:
    """What images were replaced by, as `Images` tells it of their addresses."""

    @cached_property
    def replacements(self) -> dict[object, Replacement]:
        return {}

    def replaced(self, value: object) -> Replacement | None:
        return self.replacements.get(value)


class Photos(FakeImages):
    """A leaf on the left or a spot on the right, by turns."""

    def load(self, value: object, task_id: int) -> np.ndarray:
        photo = np.full((*SIZE_HW, 3), 250, np.uint8)
        left = 10 if task_id % 2 else 45
        photo[10:40, left : left + 25] = COLOURS[label_of(task_id)]
        return photo


def label_of(task: int) -> str:
    return "leaf" if task % 2 else "spot"


def workplace(data_dir: Path, **settings: Any) -> Workplace:
    made = SimpleNamespace(
        folder=connect_folder(data_dir, "1.1"),
        images=Photos(),
        labels=parse_label_config(POLYGONS),
        config=ProjectConfig.model_validate({"engine": "fake", "learning_rate": 0.05, **settings}),
    )
    return cast(Workplace, made)


def read_round(place: Workplace, number: int, annotations: Mapping[int, str], val: int = 0, test: int = 0) -> Round:
    """A round that has read these tasks, {task: digest of its annotation}.

    The last `test` of them are test images, and the last `val` of those before for validation.
    """
    current = Round(place.folder.rounds / str(number))
    current.state.state = "read"
    current.save()
    splits = ["train"] * (len(annotations) - val - test) + ["val"] * val + ["test"] * test
    entries = [Entry(task, task, annotations[task], split) for task, split in zip(annotations, splits, strict=True)]
    rows = [AnnotatedImage(e.task, f"{e.task}.png", SIZE_HW, e.split, e.task, [region_of(e.task)]) for e in entries]
    current.write_annotated(rows, POLYGONS)
    write_snapshot(current.path / "snapshot.json", Snapshot(tuple(entries)))
    return current


def region_of(task: int) -> dict[str, Any]:
    left, right = (12.5, 43.75) if task % 2 else (56.25, 87.5)
    top, bottom = 10 / 0.6, 40 / 0.6
    points = [[left, top], [right, top], [right, bottom], [left, bottom]]
    return {
        "id": str(task),
        "type": "polygonlabels",
        "from_name": "shape",
        "to_name": "image",
        "original_width": SIZE_HW[1],
        "original_height": SIZE_HW[0],
        "value": {"points": points, "polygonlabels": [label_of(task)]},
    }


def quiet(step: str, share: float, **details: Any) -> None:
    """Take what a step tells, and do nothing about it."""
