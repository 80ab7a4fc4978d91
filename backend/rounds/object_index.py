"""What the untouched backbone sees in the objects of each task's image, as the served version found them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from backend.errors import BadImage
from backend.label_studio.annotations import read_outlines
from backend.label_studio.client import Task
from backend.label_studio.labels import LabelConfig
from backend.project.feature_cache import FeatureCache
from backend.project.unreadable import Unreadable
from backend.project.workplace import Workplace
from backend.rounds.image_features import image_name
from backend.rounds.object_parts import ObjectParts, Row
from model.engines.torchvision.frozen import FeatureMaps
from model.registry import version_number

MOST = 12
"""Objects of an image that are compared, the surest; of a crowd some stand for all."""

ACROSS = 2
"""An image in which nothing was found is compared by so many patches across and down, and as a whole."""

LOADERS = 4
AT_ONCE = 8

RENEWING_S = 30.0
"""So long an answer waits for images whose objects an earlier version found; the others follow with later answers."""

Region = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Compared:
    """Tasks whose objects can be compared.

    tasks       in the order of `starts`
    features    (m, d) float16
    starts      (n + 1,) where each task's objects begin and end
    outdated    of how many the objects are still those of another version than the served one, or of none
    """

    tasks: list[int]
    features: np.ndarray
    starts: np.ndarray
    outdated: int


def compare(place: Workplace, cache: FeatureCache, tasks: Sequence[Task], among: Sequence[Task]) -> Compared:
    """The objects of the tasks `among` a project's, whose images are looked at first where they were not.

    An image counts as looked at once any version, or none, has found its objects there. What the served version found
    instead takes that place within the next answers, RENEWING_S at a time. What is kept of tasks that are gone, or of
    images that were exchanged, is forgotten. An image that cannot be read is noted for `maskal status`, and left out.
    """
    index = _Index(place, cache)
    rows, answers = index.read(tasks)
    missing = [task for task in among if task.id not in answers]
    outdated = [task for task in among if task.id in answers and index.is_outdated(answers[task.id])]
    if missing or outdated:
        index.look_at(missing, math.inf)
        index.look_at(outdated, time.monotonic() + RENEWING_S)
        rows, answers = index.read(tasks)
    chosen = [answers[task.id] for task in among if task.id in answers]
    found = index.parts.table(chosen)
    index.parts.tidy(rows, list(answers.values()))
    return Compared(*found, sum(map(index.is_outdated, chosen)))


class _Index:
    """Which rows of the parts answer for which tasks, as the served version has ranked them."""

    def __init__(self, place: Workplace, cache: FeatureCache) -> None:
        self.place, self.cache = place, cache
        self.parts = ObjectParts(place.folder.path, cache.backbone.digest)
        registry = place.folder.registry
        self.version = registry.current() or ""
        ranked = registry.read_ranking(self.version, with_regions=False) if self.version else ()
        self.ranked = frozenset(row.task for row in ranked)

    def read(self, tasks: Sequence[Task]) -> tuple[list[Row], dict[int, Row]]:
        """All rows, and the one that answers for each task: the served version's, or else the newest."""
        rows = self.parts.rows()
        images = {task.id: self._image(task) for task in tasks}
        answers: dict[int, Row] = {}
        for row in rows:
            if images.get(row.task) == row.image:
                answers[row.task] = max(answers.get(row.task, row), row, key=self._worth)
        return rows, answers

    def is_outdated(self, row: Row) -> bool:
        """Whether the served version has found objects where another one's are kept."""
        return row.task in self.ranked and row.version != self.version

    def look_at(self, tasks: Sequence[Task], deadline: float) -> None:
        """Look at the images of tasks until a moment of time.monotonic(), with a progress bar."""
        if not tasks:
            return
        with (
            _found_by(self.place, self.version, tasks) as regions_of,
            self.parts.writer(self.version) as found,
            self.parts.writer("") as unsought,
            tqdm(total=len(tasks), desc="looking at images", unit="image") as bar,
        ):
            for task, image in self._loaded(tasks, deadline):
                bar.update()
                if image is not None:
                    boxes = boxes_of(regions_of(task.id), self.place.labels, image.shape[:2])
                    writer = found if task.id in self.ranked else unsought
                    writer.add(task.id, self._image(task), features_in(self.cache.maps(image), boxes))

    def _loaded(self, tasks: Sequence[Task], deadline: float) -> Iterator[tuple[Task, np.ndarray | None]]:
        """Tasks with their images, of which the next ones are fetched meanwhile; None if one cannot be read."""
        images, unreadable = self.place.images, Unreadable(self.place.folder.path)
        value = self.place.labels.image_value
        with ThreadPoolExecutor(LOADERS, "load") as loaders:
            for start in range(0, len(tasks), AT_ONCE):
                if time.monotonic() > deadline:
                    return
                batch = tasks[start : start + AT_ONCE]
                coming = [loaders.submit(images.load, value.of(task.data), task.id) for task in batch]
                for task, image in zip(batch, coming, strict=True):
                    try:
                        yield task, image.result()
                        unreadable.clear(task.id)
                    except BadImage as err:
                        unreadable.note(task.id, err)
                        yield task, None

    def _image(self, task: Task) -> str:
        """What a task's image is known by."""
        return image_name(self.place, self.place.labels.image_value.of(task.data))

    def _worth(self, row: Row) -> tuple[bool, int]:
        return row.version == self.version, version_number(row.version) if row.version else 0


@contextmanager
def _found_by(place: Workplace, version: str, tasks: Sequence[Task]) -> Iterator[Callable[[int], Sequence[Region]]]:
    """What a version found in the image of each of these tasks, read from the disk task by task."""
    if not version:
        yield lambda task: ()
        return
    with place.folder.registry.open_ranking(version, only={task.id for task in tasks}) as rows:
        places = {row.task: at for at, row in enumerate(rows)}
        yield lambda task: rows[places[task]].regions if task in places else ()


def boxes_of(
    regions: Sequence[Region], labels: LabelConfig, size_hw: tuple[int, int], label: str | None = None
) -> np.ndarray:
    """Boxes (k, 4) around the surest MOST objects of regions, x0, y0, x1, y1 in pixels, without what cannot be read.

    Where regions have no scores they are the first; those of one `label`, if it is given.
    """
    outlines, _ = read_outlines({"result": list(regions)}, labels, size_hw, with_scores=True)
    chosen = [outline for outline in outlines if label in (None, outline.label)]
    surest = sorted(chosen, key=lambda outline: -(outline.score or 0.0))[:MOST]
    corners = [np.concatenate([part.exterior for part in outline.parts]) for outline in surest]
    return np.array([[*points.min(0), *points.max(0)] for points in corners], np.float32).reshape(-1, 4)


def features_in(maps: FeatureMaps, boxes: np.ndarray) -> np.ndarray:
    """Features (k, d) float32 in boxes (k, 4); without any those of the image as a whole and of its patches."""
    if len(boxes):
        return maps.of_boxes(boxes)
    return np.concatenate([maps.of_patches(1), maps.of_patches(ACROSS)])
