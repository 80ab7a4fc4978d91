"""`maskal like`: the open tasks that show what a task or a class shows, for classes of which there is little yet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from backend.care.asked import Wish, ask
from backend.label_studio.client import Task
from backend.label_studio.tabs import provide_like
from backend.project.feature_cache import FeatureCache
from backend.project.folder import ProjectFolder
from backend.project.workplace import Workplace, open_workplace
from backend.rounds.computing import open_feature_cache
from backend.rounds.object_index import compare
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
    outdated  open tasks that are compared by the objects of another version than the served one, or of none
    """

    wanted: str
    tasks: tuple[Like, ...]
    unread: int
    outdated: int

    def in_words(self) -> list[str]:
        """Lines for a person."""
        if not self.tasks and not self.unread:
            return ["no other task is open that may be chosen"]
        lines = ["no other open task can be compared"]
        if self.tasks:
            lines = [f"open tasks most like {self.wanted}, 1 is the same:"]
            lines += [f"  task {one.task}: {one.likeness:.2f}" for one in self.tasks]
        if self.outdated:
            are, them = ("task is", "it") if self.outdated == 1 else ("tasks are", "them")
            lines.append(
                f"{self.outdated} open {are} compared by what another version than the served one, or none, "
                f"found in {them}; later answers catch up"
            )
        if self.unread:
            are, what = ("task is", "its image") if self.unread == 1 else ("tasks are", "their images")
            lines.append(f"{self.unread} open {are} left out, as {what} cannot be read")
        return lines


def like(settings: Settings, folder: ProjectFolder, wish: Wish, count: int) -> list[str]:
    """The open tasks that are most like what is wished for, in words, and in a tab of the Data Manager."""
    place = open_workplace(settings, folder)
    found = most_like(place, open_feature_cache(place, settings), wish, count)
    if not found.tasks:
        return found.in_words()
    tab = provide_like(place.client, folder.project_id, wish.title, [one.task for one in found.tasks])
    addresses = place.client.addresses(folder.project_id)
    address = f"{addresses.public or addresses.reached}/projects/{folder.project_id}/data?tab={tab}"
    return [*found.in_words(), f"Label Studio shows them in the tab at {address}"]


def most_like(place: Workplace, cache: FeatureCache, wish: Wish, count: int) -> Found:
    """The `count` open tasks whose objects are nearest to those that are wished for.

    Validation tasks are left out: they are to stay a fair sample. Images that were not looked at before are looked at
    first, see `compare`. Raises what `ask` raises.
    """
    asked = ask(place, cache, wish)
    everything = list(place.client.tasks(place.folder.project_id))
    tasks = [task for task in everything if task.id != wish.task and _may_be_chosen(task, place.folder)]
    compared = compare(place, cache, everything, tasks)
    near = likeness(asked.features, compared.features, compared.starts)
    first = np.lexsort((np.array(compared.tasks), -near))[:count]
    best = tuple(Like(compared.tasks[i], float(near[i])) for i in first)
    return Found(asked.words, best, len(tasks) - len(compared.tasks), compared.outdated)


def _may_be_chosen(task: Task, folder: ProjectFolder) -> bool:
    return not task.is_labeled and split_of(task.data, task.id, folder.uid) == "train"
