"""`maskal like`: the open tasks that show what a task shows, for classes of which there is little yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backend.errors import BadSetting, NotFound
from backend.label_studio.annotations import choose_annotation
from backend.label_studio.client import Task
from backend.label_studio.tabs import provide_like
from backend.project.feature_cache import FeatureCache
from backend.project.folder import ProjectFolder
from backend.project.workplace import Workplace, open_workplace
from backend.rounds.computing import open_feature_cache
from backend.rounds.object_index import Region, boxes_of, compare, features_in
from backend.rounds.snapshots import split_of
from backend.settings import Settings
from sampling.likeness import likeness


@dataclass(frozen=True)
class Like:
    """An open task, and how like the wanted objects its own are, -1..1."""

    task: int
    likeness: float


@dataclass(frozen=True)
class Found:
    """The most like first.

    wanted    what they were compared with, in words
    unread    open tasks whose images cannot be read
    outdated  open tasks that are compared by the objects of an earlier version
    """

    wanted: str
    tasks: tuple[Like, ...]
    unread: int
    outdated: int

    def in_words(self) -> list[str]:
        """Lines for a person."""
        if not self.tasks:
            return ["no other task is open that may be chosen"]
        lines = [f"open tasks most like {self.wanted}, 1 is the same:"]
        lines += [f"  task {one.task}: {one.likeness:.2f}" for one in self.tasks]
        if self.outdated:
            lines.append(
                f"{self.outdated} open tasks are compared by what an earlier version, or none, found in them; later "
                "answers catch up"
            )
        if self.unread:
            lines.append(f"{self.unread} open tasks are left out, as their images cannot be read")
        return lines


def like(settings: Settings, folder: ProjectFolder, task: int, region: str | None, count: int) -> list[str]:
    """The open tasks that are most like a task or one region of it, in words, and in a tab of the Data Manager."""
    place = open_workplace(settings, folder)
    found = most_like(place, open_feature_cache(place, settings), task, region, count)
    if not found.tasks:
        return found.in_words()
    tab = provide_like(place.client, folder.project_id, task, [one.task for one in found.tasks])
    addresses = place.client.addresses(folder.project_id)
    address = f"{addresses.public or addresses.reached}/projects/{folder.project_id}/data?tab={tab}"
    return [*found.in_words(), f"Label Studio shows them in the tab at {address}"]


def most_like(place: Workplace, cache: FeatureCache, task: int, region: str | None, count: int) -> Found:
    """The `count` open tasks whose objects are nearest to those of a task, or to one region of it.

    Validation tasks are left out: they are to stay a fair sample. Images that were not looked at before are looked at
    first, see `compare`. Raises BadSetting for an unknown task or region, BadImage where the task's own cannot be read.
    """
    asked = _task(place, task)
    regions, wanted = _wanted(place, asked, region)
    image = place.images.load(place.labels.image_value.of(asked.data), asked.id)
    features = features_in(cache.maps(image), boxes_of(regions, place.labels, image.shape[:2]))
    everything = list(place.client.tasks(place.folder.project_id))
    tasks = [other for other in everything if _may_be_chosen(other, place.folder, task)]
    compared = compare(place, cache, everything, tasks)
    near = likeness(features, compared.features, compared.starts)
    first = np.lexsort((np.array(compared.tasks), -near))[:count]
    best = tuple(Like(compared.tasks[i], float(near[i])) for i in first)
    return Found(wanted, best, len(tasks) - len(compared.tasks), compared.outdated)


def _may_be_chosen(task: Task, folder: ProjectFolder, asked: int) -> bool:
    return not task.is_labeled and task.id != asked and split_of(task.data, task.id, folder.uid) == "train"


def _task(place: Workplace, task: int) -> Task:
    """A task of the project, with its annotations."""
    project_id = place.folder.project_id
    try:
        return place.client.task(project_id, task)
    except NotFound as err:
        raise BadSetting(f"project {project_id} has no task {task}; its number stands in the Data Manager") from err


def _wanted(place: Workplace, task: Task, region: str | None) -> tuple[Sequence[Region], str]:
    """The regions to compare with: one of them, those that are annotated, or else those that were found."""
    annotation = choose_annotation(task.annotations)
    predicted = _predicted(place, task.id)
    annotated: list[Region] = annotation["result"] if annotation else []
    if region is None:
        regions = annotated or predicted
        return regions, f"task {task.id}" if regions else f"task {task.id} as a whole, as nothing is outlined in it"
    there = annotated + predicted
    chosen = [one for one in there if one.get("id") == region or one.get("parentID") == region]
    if not chosen:
        known = ", ".join(dict.fromkeys(str(one["id"]) for one in there if "id" in one)) or "none"
        raise BadSetting(f"task {task.id} has no region {region!r}; it has {known}")
    return chosen, f"region {region} of task {task.id}"


def _predicted(place: Workplace, task: int) -> list[Region]:
    registry = place.folder.registry
    version = registry.current()
    row = registry.ranked_task(version, task) if version else None
    return row.regions if row else []
