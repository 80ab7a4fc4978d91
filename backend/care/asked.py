"""What `maskal like` is asked for: objects of a task, one region, or the annotated objects of a class."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest

import numpy as np

from backend.counted import counted
from backend.errors import BadImage, BadSetting, NotFound
from backend.label_studio.annotations import choose_annotation, labels_of_objects
from backend.label_studio.client import Task
from backend.project.feature_cache import FeatureCache
from backend.project.workplace import Workplace
from backend.rounds.object_index import Region, boxes_of, features_in
from backend.rounds.snapshots import split_of

logger = logging.getLogger(__name__)

SPOKESMEN = 48
"""Annotated objects that speak for their class, and images that they are taken from, at most."""


@dataclass(frozen=True)
class Wish:
    """A task, one region of it by its id, or a label: one of `task` and `label` is given."""

    task: int | None = None
    region: str | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        if (self.task is None) == (self.label is None) or (self.region is not None and self.task is None):
            raise ValueError(f"wanted a task, a region of a task, or a label, got {self}")

    @property
    def title(self) -> str:
        """What a tab is named for."""
        return f"task {self.task}" if self.label is None else self.label


@dataclass(frozen=True, eq=False)
class Asked:
    """The objects to compare with, in words, and their features (q, d) float32."""

    words: str
    features: np.ndarray


def ask(place: Workplace, cache: FeatureCache, wish: Wish) -> Asked:
    """The objects that a wish is about.

    Raises BadSetting for an unknown task, region or label and for one without annotated objects, BadImage where the
    images that show them cannot be read.
    """
    if wish.task is not None:
        return _of_task(place, cache, wish.task, wish.region)
    return _of_label(place, cache, str(wish.label))


def _of_task(place: Workplace, cache: FeatureCache, number: int, region: str | None) -> Asked:
    task = _task(place, number)
    regions, words = _regions(place, task, region)
    image = place.images.load(place.labels.image_value.of(task.data), task.id)
    return Asked(words, features_in(cache.maps(image), boxes_of(regions, place.labels, image.shape[:2])))


def _task(place: Workplace, task: int) -> Task:
    """A task of the project, with its annotations."""
    project_id = place.folder.project_id
    try:
        return place.client.task(project_id, task)
    except NotFound as err:
        raise BadSetting(f"project {project_id} has no task {task}; its number stands in the Data Manager") from err


def _regions(place: Workplace, task: Task, region: str | None) -> tuple[Sequence[Region], str]:
    """The regions to compare with: one of them, those that are annotated, or else those that were found."""
    annotated, predicted = _annotated(task), _predicted(place, task.id)
    if region is None:
        regions = annotated or predicted
        return regions, f"task {task.id}" if regions else f"task {task.id} as a whole, as nothing is outlined in it"
    there = annotated + predicted
    chosen = [one for one in there if one.get("id") == region or one.get("parentID") == region]
    if not chosen:
        known = ", ".join(dict.fromkeys(str(one["id"]) for one in there if "id" in one)) or "none"
        raise BadSetting(f"task {task.id} has no region {region!r}; it has {known}")
    return chosen, f"region {region} of task {task.id}"


def _annotated(task: Task) -> list[Region]:
    annotation = choose_annotation(task.annotations)
    return (annotation["result"] or []) if annotation else []


def _predicted(place: Workplace, task: int) -> list[Region]:
    registry = place.folder.registry
    version = registry.current()
    row = registry.ranked_task(version, task) if version else None
    return row.regions if row else []


def _of_label(place: Workplace, cache: FeatureCache, label: str) -> Asked:
    """Annotated objects of a class: one of each image that shows it, then a second of each, and so on."""
    of_images = list(_of_images(place, cache, label, _spread(_showing(place, label))))
    objects = [one for in_turn in zip_longest(*of_images) for one in in_turn if one is not None]
    chosen = objects[:SPOKESMEN]
    return Asked(f"{counted(len(chosen), 'annotated object')} of {label}", np.stack(chosen))


def _showing(place: Workplace, label: str) -> list[int]:
    """The annotated tasks with objects of a class that are learned from; BadSetting if there are none."""
    if label not in place.labels.classes:
        raise BadSetting(f"the labelling config has no label {label!r}; it has {', '.join(place.labels.classes)}")
    shown: dict[str, list[int]] = {}
    for task in place.client.annotated_tasks(place.folder.project_id):
        if label in labels_of_objects({"result": _annotated(task)}, place.labels):
            shown.setdefault(split_of(task.data, task.id, place.folder.uid), []).append(task.id)
    if "train" in shown:
        return shown["train"]
    held_out = ", ".join(str(task) for tasks in shown.values() for task in islice(tasks, 5))
    aside = f" but in images that are held out, which are to stay a fair sample (task {held_out})" if held_out else ""
    mend = "outline one, or ask for the like of a task that shows one: --task"
    raise BadSetting(f"no object of {label} is annotated yet{aside}; {mend}")


def _spread(tasks: Sequence[int]) -> list[int]:
    """SPOKESMEN of these at most, evenly spread."""
    places = np.linspace(0, len(tasks) - 1, min(len(tasks), SPOKESMEN)).round().astype(int)
    return [tasks[place] for place in places]


def _of_images(place: Workplace, cache: FeatureCache, label: str, tasks: Sequence[int]) -> Iterator[np.ndarray]:
    """Features (k, d) of a class's objects in each of these images; one that cannot be read is left out, if not all."""
    failure, any_read = None, False
    for number in tasks:
        task = _task(place, number)
        try:
            image = place.images.load(place.labels.image_value.of(task.data), task.id)
        except BadImage as err:
            logger.warning("%s", err)
            failure = err
            continue
        boxes = boxes_of(_annotated(task), place.labels, image.shape[:2], label)
        if len(boxes):
            any_read = True
            yield cache.maps(image).of_boxes(boxes)
    if not any_read:
        raise failure or BadSetting(
            f"no annotated object of {label} can be read; `maskal status --project {place.folder.project_id}` says why"
        )
