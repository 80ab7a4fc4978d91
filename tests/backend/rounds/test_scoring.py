from __future__ import annotations

import resource
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import cv2
import numpy as np
import pytest
import torch

from backend.errors import BadImage
from backend.label_studio.client import Task
from backend.label_studio.labels import parse_label_config
from backend.project.config import ProjectConfig
from backend.project.unreadable import Unreadable
from backend.project.workplace import Workplace
from backend.rounds.judging import detected
from backend.rounds.scoring import Scored, score_tasks, smoothed, task_seed
from model.engines.base import EngineConfig
from model.engines.fake import FakeEngine
from model.engines.pasting import smooth
from model.instances import Instances
from model.judging.evaluation import detections_of
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


class SmallMemory(FakeEngine):
    """Has memory for one encoded image and what is computed of it, but encodes any number of them."""

    def __init__(self) -> None:
        super().__init__(("leaf", "spot"), EngineConfig())
        self.encoded: list[weakref.ref[Any]] = []

    def encode(self, images: Sequence[np.ndarray], *, exact: bool = False) -> list[Any]:
        made = super().encode(images, exact=exact)
        self.encoded = [weakref.ref(one) for one in made]
        return made

    def decode(self, encoded: Any, **options: Any) -> Any:
        if sum(ref() is not None for ref in self.encoded) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().decode(encoded, **options)


def test_images_for_which_memory_lacks_after_they_were_encoded_are_scored_by_halves(tmp_path: Path) -> None:
    place = workplace(tmp_path, FakePhotos(set()))
    found = {task.id: one for task, one in score_tasks(place, SmallMemory(), "maskal-r1", tasks(4))}
    assert found == dict(scored(place, 4))


def test_validation_images_are_measured_by_halves_likewise() -> None:
    photos = [FakePhotos(set()).load(None, number) for number in range(4)]
    usual = FakeEngine(("leaf", "spot"), EngineConfig())
    expected = [len(detections_of(usual.predict(photo, confidence_threshold=0.05)).scores) for photo in photos]
    assert [len(one.scores) for one in detected(SmallMemory(), photos)] == expected


def test_smoothed_masks_of_a_large_photo_take_memory_only_where_objects_are() -> None:
    masks = np.zeros((40, 4000, 6000), bool)
    for number, mask in enumerate(masks):
        mask[100 * number : 100 * number + 80, 200:300] = True
        mask[100 * number, 300] = True  # a speck
    boxes = np.array([(200, 100 * number, 301, 100 * number + 80) for number in range(40)], np.float32)
    found = Instances(boxes, np.ones(40), np.zeros(40, int), np.ones((40, 1)), masks)
    sizes, before = [np.count_nonzero(mask) for mask in masks], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    shown = smoothed(found)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB; all pixels would be 960,000
    assert all(0 < np.count_nonzero(mask) < size for mask, size in zip(shown.masks, sizes, strict=True))
    assert (shown.masks[7] == smooth(masks[7], boxes[7])).all()
