"""Open tasks that a version has not ranked: what came after its ranking, or was pushed out of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from backend.label_studio.client import Task
from backend.project.unreadable import Unreadable
from backend.project.workplace import Workplace
from backend.rounds import task_queue
from backend.rounds.copies_last import LateCopies
from backend.rounds.folder import Report
from backend.rounds.scored import Scored
from backend.rounds.snapshots import split_of
from model.rankings import RankedTask, RowFinder
from sampling.near_copies import below_tail
from sampling.ranking import score_for

SCORED_AT_ONCE = 500
SCORING_S = 30.0
"""What one look at a project scores at most, so that other projects get their turn."""


class Score(Protocol):
    """Lets a version score tasks, one after the other; None where an image cannot be read."""

    def __call__(self, place: Workplace, version: str, tasks: Sequence[Task]) -> Iterator[tuple[Task, Scored | None]]:
        """The tasks in order, each with what the version makes of it."""
        ...


@dataclass(frozen=True)
class _Means:
    report: Report
    score: Score


def score_new_tasks(place: Workplace, report: Report, score: Score, *, budget_s: float = SCORING_S) -> tuple[int, bool]:
    """Let open tasks without a score of the served version enter its queue at their place.

    These are new tasks, tasks whose annotation was deleted, and those whose prediction somebody deleted. Works for
    about `budget_s` seconds, and calls `score` only where there is an image
    to look at; returns how many were pushed, and whether more are waiting.
    """
    registry = place.folder.registry
    version = registry.current()
    if version is None:
        return 0, False
    waiting = {task for task, failure in Unreadable(place.folder.path).failures().items() if failure.is_waiting}
    limit = SCORED_AT_ONCE + len(waiting)
    listed, total = place.client.open_tasks_without(place.folder.project_id, version, limit)
    tasks = [task for task in listed if task.id not in waiting]
    if not tasks:
        return 0, False
    rows, looked_at = _rows_for(place, version, tasks, time.monotonic() + budget_s, _Means(report, score))
    place.pusher(version).push([row for row, _ in rows])
    registry.append_ranking(version, *(row for row, is_new in rows if is_new))
    return len(rows), looked_at < len(tasks) or total > limit


def _rows_for(
    place: Workplace, version: str, tasks: Sequence[Task], deadline: float, means: _Means
) -> tuple[list[tuple[RankedTask, bool]], int]:
    """The ranked tasks, each with whether it is new in the ranking, and how many tasks were looked at in time."""
    registry, finder = place.folder.registry, RowFinder()
    stored = {task.id: registry.ranked_task(version, task.id, finder) for task in tasks}
    rows = [(row, False) for row in stored.values() if row is not None]
    missing = [task for task in tasks if stored[task.id] is None]
    if not missing:
        return rows, len(tasks)
    ranking = registry.read_ranking(version, with_regions=False)
    copies = LateCopies(place, ranking, [task.id for task in missing])
    looked_at = len(tasks) - len(missing)
    for task, scored in means.score(place, version, missing):
        looked_at += 1
        if scored is not None:
            rows.append((_late_row(place, task, scored, ranking, copies), True))
        means.report("score new tasks", looked_at / len(tasks))
        if time.monotonic() > deadline:
            break
    return rows, looked_at


def late_score(place: Workplace, scored: Scored, ranking: Sequence[RankedTask], copy_of: int | None = None) -> float:
    """Queue score of a task that was not there when its version ranked the others; `copy_of`: its near copy there."""
    if copy_of is not None:
        return 1.0
    certainty = float("nan") if scored.certainty is None else scored.certainty
    kept = [row for row in ranking if row.copy_of is None]
    score = score_for(certainty, kept, place.config.ranking_config())
    return score if len(kept) == len(ranking) else below_tail(score)


def _late_row(
    place: Workplace, task: Task, scored: Scored, ranking: Sequence[RankedTask], copies: LateCopies
) -> RankedTask:
    split = split_of(task.data, task.id, place.folder.uid)
    regions = task_queue.shown_regions(scored.regions, split, place.config)
    copy_of = copies.take(task.id, split)
    score = late_score(place, scored, ranking, copy_of)
    return RankedTask(task.id, scored.certainty, len(ranking), score, split, regions, copy_of=copy_of)
