"""What is told of a version without looking at its tasks one by one: `summary.json` beside its ranking."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from backend.errors import BadImage
from backend.label_studio.client import Task
from backend.project.folder import ProjectFolder
from backend.project.workplace import Workplace
from backend.rounds.findings import Findings, read_findings
from backend.rounds.first_queue import read_first_queue
from backend.rounds.folder import Round
from backend.rounds.pictures import Picture, drawings_of, keep_thumbnail, thumbnail_name
from model.rankings import RankedTask
from model.registry import Registry
from model.stored_json import as_kind

logger = logging.getLogger(__name__)

FORMAT = 1
"""Of `summary.json`; one of another format is not shown."""

BINS = 20
FRONT = 36
"""Tasks from the front of the queue that are kept: more than are annotated until the next round, as a rule."""

FIRST = 12
"""The same before the first version, where they are looked up at each change."""


@dataclass(frozen=True)
class Next:
    """A task at the front of the queue, and why it stands there."""

    picture: Picture
    reason: str
    certainty: float | None


@dataclass(frozen=True)
class Summary:
    """What a version made of the open tasks, and of the validation images.

    certainties  how many open tasks have a certainty in each of BINS equal parts of 0..1
    without      how many tasks nothing was found in
    front        the first tasks of the queue
    findings     on the validation images; None where no round stored them
    """

    certainties: tuple[int, ...]
    without: int
    front: tuple[Next, ...]
    findings: Findings | None


def write_summary(
    place: Workplace, current: Round, rows: Sequence[RankedTask], data: Mapping[int, Mapping[str, Any]]
) -> None:
    """Sum up a ranking, whose order is that of the rows; `data` is that of the tasks by their ids."""
    known = [row.certainty for row in rows if row.certainty is not None]
    front = [_next(place, row, data[row.task]) for row in rows[:FRONT]]
    summary = {
        "format": FORMAT,
        "certainties": np.histogram(known, BINS, (0, 1))[0].tolist(),
        "without": len(rows) - len(known),
        "front": [asdict(one) for one in front if one is not None],
        "findings": read_findings(current),
    }
    place.folder.registry.write_summary(current.version, summary)


def read_summary(registry: Registry, version: str) -> Summary | None:
    """The summary of a version; None if it has none that can be read."""
    try:
        stored = registry.read_summary(version)
        if stored is None or stored["format"] != FORMAT:
            return None
        return as_kind(stored, Summary, f"the summary of {version}")
    except (ValueError, KeyError) as err:
        logger.warning("the summary of %s cannot be read: %s", version, err)
        return None


def front_of_first_queue(place: Workplace, known: Mapping[int, Picture]) -> tuple[Next, ...]:
    """The first open tasks while there is no version; none where they are not ordered. `known` pictures are kept."""
    queue = read_first_queue(place.folder) if place.config.chooses_first_images else {}
    if not queue:
        return ()
    tasks = {task.id: task for task in place.client.tasks(place.folder.project_id) if not task.is_labeled}
    waiting = sorted((row for row in queue.values() if row.task in tasks), key=lambda row: (row.score, row.task))
    found = (_first_picture(place, tasks[row.task], known.get(row.task)) for row in waiting[:FIRST])
    return tuple(
        Next(picture, row.reason, None) for picture, row in zip(found, waiting[:FIRST], strict=True) if picture
    )


def front_in_words(folder: ProjectFolder, annotated: Collection[int], listed: int) -> Iterator[str]:
    """What status says of the next tasks of the served version's queue, but for those annotated since."""
    served = folder.registry.current()
    summary = read_summary(folder.registry, served) if served else None
    waiting = [one for one in summary.front if one.picture.task not in annotated] if summary else []
    for one in waiting[:listed]:
        if one.reason:
            yield f"task {one.picture.task} comes next: {one.reason}"


def _next(place: Workplace, row: RankedTask, data: Mapping[str, Any]) -> Next | None:
    picture = _picture(place, row.task, data, row.regions)
    return Next(picture, row.reason, row.certainty) if picture else None


def _first_picture(place: Workplace, task: Task, known: Picture | None) -> Picture | None:
    name = thumbnail_name(place, str(place.labels.image_value.of(task.data)))
    return known if known is not None and known.thumbnail == name else _picture(place, task.id, task.data, [])


def _picture(place: Workplace, task: int, data: Mapping[str, Any], regions: list[dict[str, Any]]) -> Picture | None:
    """None if the image cannot be read any more, as when it was deleted since it was scored."""
    uri = place.labels.image_value.of(data)
    try:
        image = place.images.load(uri, task)
    except BadImage as err:
        logger.warning("task %d is not shown on the page: %s", task, err)
        return None
    size_hw = image.shape[:2]
    return Picture(task, keep_thumbnail(place, str(uri), image), size_hw, drawings_of(regions, size_hw, place.labels))
