"""Which of a project's tasks are near copies of one another: found piece by piece, kept in `near_copies.json`."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from backend.label_studio.client import Project, Task
from backend.project.folder import ProjectFolder
from backend.project.workplace import Workplace
from backend.rounds.folder import Report
from backend.rounds.glances import Glances
from backend.rounds.image_features import FeatureMaker, Known, add_features, missing_from, read_features
from model.errors import BadCheckpoint
from model.files import write_json
from model.near_copies import find_near_copies
from model.stored_json import as_kind, read_as

logger = logging.getLogger(__name__)

FORMAT = 2
"""Of `near_copies.json`; one of another format is made anew."""

LOOKING_S = 30.0
"""What one look at a project computes at most, so that other projects get their turn."""


@dataclass(frozen=True)
class NearCopies:
    """What is known so far.

    twins     near copies of each task that has any
    images    what the image of each compared task is known by
    tasks     number of the project's tasks when all were compared, None before
    obstacle  why none are looked for, if so
    """

    twins: Mapping[int, frozenset[int]] = field(default_factory=dict)
    images: Mapping[int, str] = field(default_factory=dict)
    tasks: int | None = None
    obstacle: str = ""


@dataclass(frozen=True)
class _Stored:
    """What the file holds: NearCopies with each pair of twins once."""

    tasks: int | None
    obstacle: str
    pairs: tuple[tuple[int, int], ...]
    images: dict[int, str]


def read_near_copies(folder: ProjectFolder) -> NearCopies:
    """What is known of a project; nothing where it cannot be read, which is found anew."""
    path = _path(folder)
    if not path.exists():
        return NearCopies()
    try:
        stored = read_as(path, dict[str, Any])
        if stored.get("format") != FORMAT:
            return NearCopies()
        known = as_kind(stored, _Stored, str(path))
        return NearCopies(_twins(known.pairs), known.images, known.tasks, known.obstacle)
    except ValueError as err:
        logger.warning("%s of project %s cannot be read and is made anew: %s", path.name, folder.uid, err)
        return NearCopies()


def look_for_near_copies(
    place: Workplace,
    project: Project,
    open_cache: Callable[[], FeatureMaker],
    report: Report,
    *,
    in_full: bool,
    budget_s: float = LOOKING_S,
) -> bool:
    """Compare the images that are new in a project for about `budget_s` seconds; whether there is more to do.

    Tasks are listed only where their number has changed, or `in_full`; `open_cache` is called only where an image was
    never looked at. Nothing is looked for where the settings keep near copies, or weights are missing.
    """
    if not place.config.moves_near_copies:
        return False
    known = read_near_copies(place.folder)
    if not in_full and (known.obstacle or known.tasks == project.counters[0]):
        return False
    tasks, deadline = list(place.client.tasks(project.id)), time.monotonic() + budget_s
    try:
        features = _with_features(place, tasks, open_cache, deadline)
    except BadCheckpoint as err:
        _note_obstacle(place.folder, known, str(err))
        return False
    found = _compared(place, tasks, features, deadline)
    left = len(missing_from(features, place, tasks)) + len(_to_compare(found, features, tasks))
    report("look for near copies", 1 - left / max(1, len(tasks)), images=len(tasks))
    _write(place.folder, replace(found, tasks=None if left else project.counters[0], obstacle=""))
    return left > 0


def compare_now(place: Workplace, tasks: Sequence[Task], open_cache: Callable[[], FeatureMaker]) -> NearCopies:
    """What is known, and what a comparison of these tasks' images with one another adds, however long it takes.

    Raises BadCheckpoint where the backbone's weights are missing.
    """
    features = _with_features(place, tasks, open_cache, math.inf)
    return _compared(place, tasks, features, math.inf)


def _with_features(
    place: Workplace, tasks: Sequence[Task], open_cache: Callable[[], FeatureMaker], deadline: float
) -> Known:
    known = read_features(place)
    missing = missing_from(known, place, tasks)
    return add_features(place, open_cache(), known, missing, deadline) if missing else known


def _compared(place: Workplace, tasks: Sequence[Task], features: Known, deadline: float) -> NearCopies:
    """What is known when those of the tasks that are new have been compared, until a moment of time.monotonic()."""
    known = _without_changed(read_near_copies(place.folder), features)
    new = _to_compare(known, features, tasks)
    if not new:
        return known
    value = place.labels.image_value
    glances = Glances(place, {task.id: value.of(task.data) for task in tasks})
    among = [task.id for task in tasks if task.id in features.features]
    rows = {task: row for row, task in enumerate(among)}
    table = np.stack([features.features[task] for task in among])
    pairs, done = list[tuple[int, int]](), list[int]()
    for row, others in find_near_copies(table, [rows[task] for task in new], lambda row: glances.of(among[row])):
        pairs += [(among[row], among[other]) for other in others]
        done.append(among[row])
        if time.monotonic() > deadline:
            break
    return _added(known, pairs, {task: features.images[task] for task in done})


def _to_compare(known: NearCopies, features: Known, tasks: Sequence[Task]) -> list[int]:
    return [t.id for t in tasks if t.id in features.features and known.images.get(t.id) != features.images[t.id]]


def _without_changed(known: NearCopies, features: Known) -> NearCopies:
    """What is still true: an image that was exchanged is compared anew."""
    gone = {task for task, image in known.images.items() if features.images.get(task, image) != image}
    if not gone:
        return known
    twins = {task: twins - gone for task, twins in known.twins.items() if task not in gone}
    images = {task: image for task, image in known.images.items() if task not in gone}
    return replace(known, twins={task: left for task, left in twins.items() if left}, images=images)


def _added(known: NearCopies, pairs: Collection[tuple[int, int]], images: Mapping[int, str]) -> NearCopies:
    before = [(task, other) for task, twins in known.twins.items() for other in twins]
    return replace(known, twins=_twins([*before, *pairs]), images={**known.images, **images})


def _twins(pairs: Collection[Sequence[int]]) -> dict[int, frozenset[int]]:
    found: dict[int, set[int]] = {}
    for one, other in pairs:
        found.setdefault(one, set()).add(other)
        found.setdefault(other, set()).add(one)
    return {task: frozenset(twins) for task, twins in found.items()}


def _note_obstacle(folder: ProjectFolder, known: NearCopies, obstacle: str) -> None:
    if known.obstacle != obstacle:
        logger.warning("project %s: near copies are not looked for: %s", folder.uid, obstacle)
        _write(folder, replace(known, obstacle=obstacle))


def _write(folder: ProjectFolder, known: NearCopies) -> None:
    pairs = sorted((one, other) for one, twins in known.twins.items() for other in twins if one < other)
    stored = _Stored(known.tasks, known.obstacle, tuple(pairs), dict(known.images))
    write_json(_path(folder), {"format": FORMAT, **asdict(stored)}, indent=None)


def _path(folder: ProjectFolder) -> Path:
    return folder.path / "near_copies.json"
