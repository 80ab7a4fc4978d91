from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import cv2
import numpy as np
import pytest

from backend.errors import BadImage
from backend.label_studio.client import Task
from backend.label_studio.labels import parse_label_config
from backend.project.config import ProjectConfig
from backend.project.unreadable import Unreadable
from backend.project.workplace import Workplace
from backend.rounds.scoring import Scored, score_tasks, task_seed
from model.engines.base import EngineConfig
from model.engines.fake import FakeEngine
from tests.backend.configs import POLYGONS

LEAF = (26, 26, 26)
"""Near the colour that an untrained fake engine takes for its first class."""


@dataclass
class FakePhotos:
    """Photos with a leaf each, and which of them cannot be read."""

    broken: set[int]
    loaded: list[int] = field(default_factory=list)

    def load(self, value: object, task_id: int) -> np.ndarray:
        self.loaded.append(task_id)
        if task_id in self.broken:
            raise BadImage(f"task {task_id}: {value} is broken")
        photo = np.full((60, 80, 3), 128, np.uint8)
        cv2.circle(photo, (40, 30), 8 + task_id, LEAF, -1)
        return photo


def workplace(folder: Path, photos: FakePhotos, **settings: Any) -> Workplace:
    made = SimpleNamespace(
        folder=SimpleNamespace(path=folder),
        images=photos,
        labels=parse_label_config(POLYGONS),
        config=ProjectConfig(engine="fake", **settings),
    )
    return cast(Workplace, made)


def tasks(count: int) -> list[Task]:
    return [Task(id=number, data={"photo": f"{number}.jpg"}, is_labeled=False) for number in range(1, count + 1)]


def scored(place: Workplace, count: int, version: str = "maskal-r1") -> list[tuple[int, Scored | None]]:
    engine = FakeEngine(("leaf", "spot"), EngineConfig())
    return [(task.id, found) for task, found in score_tasks(place, engine, version, tasks(count))]


@pytest.mark.parametrize("scoring", ["fast", "exact"])
def test_every_task_is_scored_in_order_with_all_that_strategies_need(tmp_path: Path, scoring: str) -> None:
    photos = FakePhotos(set())
    found = scored(workplace(tmp_path, photos, scoring=scoring), 5)
    assert [task for task, _ in found] == [1, 2, 3, 4, 5] and sorted(photos.loaded) == [1, 2, 3, 4, 5]
    for _, score in found:
        assert score is not None and score.certainty is not None and 0 < score.certainty <= 1
        leaves, spots = score.class_counts
        assert leaves > spots and len(score.embedding) == 3
        [region] = score.regions
        assert region["value"]["polygonlabels"] == ["leaf"]


def test_a_broken_image_is_noted_and_the_others_of_its_batch_are_scored(tmp_path: Path) -> None:
    found = scored(workplace(tmp_path, FakePhotos({2, 5})), 5)
    assert [task for task, score in found if score is None] == [2, 5]
    assert set(Unreadable(tmp_path).failures()) == {2, 5}
    scored(workplace(tmp_path, FakePhotos({5})), 5)
    assert set(Unreadable(tmp_path).failures()) == {5}, "what can be read again is forgotten"


def test_no_tasks_are_no_work(tmp_path: Path) -> None:
    assert scored(workplace(tmp_path, FakePhotos(set())), 0) == []


def test_a_version_gives_a_task_the_same_certainty_again_in_any_batch(tmp_path: Path) -> None:
    once, again = (dict(scored(workplace(tmp_path, FakePhotos(set())), count)) for count in (3, 2))
    assert once[1] == again[1] and once[2] == again[2]
    assert task_seed("maskal-r1", 1) != task_seed("maskal-r2", 1)
