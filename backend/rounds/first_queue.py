"""The queue before the first version: a project's `initial.jsonl`, one line for each task."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from backend.errors import BadSetting
from backend.project.folder import ProjectFolder
from model.files import write_atomically

logger = logging.getLogger(__name__)

FIRST_VERSION = "maskal-r0"
"""What Label Studio's queue follows before the first version; no version of the registry, and nothing to go back to."""

FILE = "initial.jsonl"
OBSTACLE = "initial_obstacle.txt"
"""Says why images cannot be looked at, if so."""


@dataclass(frozen=True)
class FirstTask:
    """A task in the first queue.

    score   what Label Studio's queue sorts by, lowest first; finite
    split   train, val or test
    reason  why it stands there, in words
    copy_of the task that it is a near copy of, if it comes last for that
    """

    task: int
    score: float
    split: str
    reason: str
    copy_of: int | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.score):
            raise ValueError(f"a score must be finite, got {self.score} (task {self.task})")


def has_first_queue(folder: ProjectFolder) -> bool:
    """Whether the first images of a project were ordered."""
    return _path(folder).exists()


def read_first_queue(folder: ProjectFolder) -> dict[int, FirstTask]:
    """The ordered tasks by their ids, also those that were annotated since; empty if there is no order yet."""
    if not has_first_queue(folder):
        return {}
    try:
        rows = [FirstTask(**json.loads(line)) for line in _path(folder).read_text().splitlines()]
    except (ValueError, TypeError) as err:
        raise BadSetting(f"{FILE} of project {folder.uid} cannot be read ({err}); delete it, it is made anew") from err
    return {row.task: row for row in rows}


def write_first_queue(folder: ProjectFolder, rows: Iterable[FirstTask]) -> None:
    """Keep the order, first to be served first."""
    ordered = sorted(rows, key=lambda row: (row.score, row.task))
    write_atomically(_path(folder), "".join(json.dumps(asdict(row)) + "\n" for row in ordered))


def read_obstacle(folder: ProjectFolder) -> str:
    """Why images cannot be looked at, as the last look found; empty if they can."""
    path = folder.path / OBSTACLE
    return path.read_text() if path.exists() else ""


def note_obstacle(folder: ProjectFolder, obstacle: str) -> None:
    """Keep why images cannot be looked at, and log it once; empty: they can."""
    if obstacle == read_obstacle(folder):
        return
    if obstacle:
        logger.warning("project %s: images cannot be looked at, chance chooses: %s", folder.uid, obstacle)
        write_atomically(folder.path / OBSTACLE, obstacle)
    else:
        (folder.path / OBSTACLE).unlink(missing_ok=True)


def first_order_in_words(folder: ProjectFolder) -> str:
    """In which order the images before the first version come, for people who may look and nothing else."""
    if not folder.config().chooses_first_images:
        return "The first images come in random order."
    if has_first_queue(folder):
        return "The first images are those that stand for the most others."
    if read_obstacle(folder):
        return "The first images come in random order, as they cannot be looked at; `maskal status` says why."
    return "The first images are being chosen; until then they come in random order."


def _path(folder: ProjectFolder) -> Path:
    return folder.path / FILE
