"""The queue before the first version: a project's `initial.jsonl`, one line for each task."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from backend.errors import BadSetting
from backend.project.folder import ProjectFolder
from model.files import write_atomically

FIRST_VERSION = "maskal-r0"
"""What Label Studio's queue follows before the first version; no version of the registry, and nothing to go back to."""

FILE = "initial.jsonl"


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


def _path(folder: ProjectFolder) -> Path:
    return folder.path / FILE
