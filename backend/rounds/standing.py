"""Where a project stands, as a worker saw it last: `standing.json`, for those who do not ask Label Studio."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from backend.label_studio.client import Project
from backend.project.folder import ProjectFolder
from backend.project.unreadable import Unreadable
from backend.project.workplace import Workplace
from backend.rounds.effort import Effort, effort_of
from backend.rounds.folder import left_out_before
from backend.rounds.receipt import Receipt
from backend.rounds.snapshots import Need
from backend.rounds.summary import Next, front_of_first_queue, read_summary
from model.files import write_json
from model.stored_json import as_kind, read_as

logger = logging.getLogger(__name__)

FORMAT = 1
"""Of `standing.json`; one of another format is not shown, and written anew."""

NAMED = 10
"""Tasks that are named, of those that are not scored and of those that do not count; the newest."""


@dataclass(frozen=True)
class Trouble:
    """A task that is not used, and why."""

    task: int
    reason: str


@dataclass(frozen=True)
class Standing:
    """What the last look at a project saw.

    label_studio  its address as browsers know it
    changed       new or changed annotations since the last round
    missing       so many more until the next one, and why (`reason`); None while a round is under way, when nothing is
                  said, and where none begins by itself any more
    unreadable    images that are not scored, the newest; `unreadable_count` of them in all
    left_out      annotated tasks that do not count, the newest; `left_out_count` of them in all
    front         the first open tasks while there is no version
    done          tasks at the front of the served version's queue that were annotated since
    looked_at     Unix time
    """

    title: str
    label_studio: str
    tasks: int
    annotated: int
    changed: int
    missing: int | None
    reason: str
    unreadable: tuple[Trouble, ...]
    unreadable_count: int
    left_out: tuple[Trouble, ...]
    left_out_count: int
    effort: Effort
    version: str | None
    front: tuple[Next, ...]
    done: tuple[int, ...]
    looked_at: float


def write_standing(place: Workplace, project: Project, need: Need | None, touched: Collection[int]) -> None:
    """Keep what a look saw; `touched` are tasks that were annotated since the look before."""
    folder, addresses = place.folder, place.client.addresses(project.id)
    before, version = read_standing(folder), folder.registry.current()
    failures = Unreadable(folder.path).failures()
    left_out = left_out_before(folder, place.label_config)
    summary = read_summary(folder.registry, version) if version else None
    shown = {one.picture.task for one in summary.front} if summary else set()
    pictures = {one.picture.task: one.picture for one in before.front} if before else {}
    known = set(before.done) if before and before.version == version else set()
    standing = Standing(
        title=project.title,
        label_studio=addresses.public or addresses.reached,
        tasks=project.counters[0],
        annotated=project.counters[1],
        changed=need.changed if need else 0,
        missing=need.missing if need else None,
        reason=need.reason if need else "",
        unreadable=tuple(Trouble(task, failure.error) for task, failure in list(failures.items())[-NAMED:]),
        unreadable_count=len(failures),
        left_out=tuple(Trouble(one.task, "; ".join(one.reasons)) for one in left_out[-NAMED:]),
        left_out_count=len(left_out),
        effort=effort_of(Receipt(folder.path).newest().values()),
        version=version,
        front=() if version else front_of_first_queue(place, pictures),
        done=tuple(sorted(known | (shown & set(touched)))),
        looked_at=time.time(),
    )
    write_json(_path(folder), {"format": FORMAT, **asdict(standing)})


def has_standing(folder: ProjectFolder) -> bool:
    """Whether a look at a project was written down."""
    return _path(folder).exists()


def read_standing(folder: ProjectFolder) -> Standing | None:
    """What the last look saw; None before the first one, or where another release wrote it."""
    if not has_standing(folder):
        return None
    try:
        stored = read_as(_path(folder), dict[str, Any])
        return as_kind(stored, Standing, str(_path(folder))) if stored.get("format") == FORMAT else None
    except ValueError as err:
        logger.warning("standing.json of project %s cannot be read and is written anew: %s", folder.uid, err)
        return None


def _path(folder: ProjectFolder) -> Path:
    return folder.path / "standing.json"
