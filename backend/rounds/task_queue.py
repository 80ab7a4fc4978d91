"""What Label Studio's queue serves: the order of the open tasks, the published version, the predictions it keeps."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from backend.errors import NotFound
from backend.label_studio.client import LabelStudio, Project
from backend.project.config import ProjectConfig
from backend.project.workplace import Workplace
from backend.rounds.first_queue import FIRST_VERSION, has_first_queue
from backend.rounds.folder import unfinished
from backend.rounds.receipt import note_annotations
from backend.rounds.retired import Retired
from backend.rounds.scored import Scored
from model.rankings import RankedTask
from model.registry import NAME, Registry, version_number
from sampling.ranking import Candidate, Moment, RankingConfig, rank

logger = logging.getLogger(__name__)

SMALL_VERSION = 500
LISTED_AT_ONCE = 100
CLEANING_S = 15.0
ENOUGH_VALIDATION = 150
"""Validation images from which on those that are left come last."""


def order_tasks(
    scored: Mapping[int, Scored], splits: Mapping[int, str], config: RankingConfig, moment: Moment
) -> tuple[RankedTask, ...]:
    """The queue of the open tasks, first to be served first; the moment's round makes it repeatable.

    Without their regions, which memory need not hold: see `with_regions`.
    """
    candidates = [
        Candidate(
            key=task,
            certainty=float("nan") if s.certainty is None else s.certainty,
            is_held_out=splits[task] != "train",
            class_counts=s.class_counts,
            embedding=s.embedding if s.seen is None else s.seen.whole,
            objects=None if s.seen is None else s.seen.objects,
        )
        for task, s in scored.items()
    ]
    places = rank(candidates, config, moment.round_number, moment)
    return tuple(
        RankedTask(
            task=p.key,
            certainty=p.certainty,
            place=p.place,
            score=p.score,
            split=splits[p.key],
            is_control=p.is_control,
            regions=[],
        )
        for p in places
    )


def with_regions(
    rows: Iterable[RankedTask], regions_of: Callable[[int], list[dict[str, Any]]], config: ProjectConfig
) -> Iterator[RankedTask]:
    """A queue's tasks with the pre-labels that annotators see of them, one after the other."""
    for row in rows:
        yield replace(row, regions=shown_regions(regions_of(row.task), row.split, config))


def shown_regions(regions: list[dict[str, Any]], split: str, config: ProjectConfig) -> list[dict[str, Any]]:
    """The pre-label that annotators see: none on held-out tasks where the project says so."""
    return regions if split == "train" or config.holdout_prelabels else []


def publish(client: LabelStudio, registry: Registry, project: Project) -> None:
    """Make Label Studio's queue follow the served version, by one call where it does not yet.

    Label Studio refuses a version without any prediction, as there is when no task is open; then it stays as it is
    until a task is scored.
    """
    current = registry.current()
    if current is None or project.model_version == current:
        return
    if current in client.model_versions(project.id):
        Retired(registry.folder).forget(current, project.model_version)  # annotators are given both about now
        client.update_project(project.id, model_version=current)
        logger.info("project %d: the queue now follows %s", project.id, current)


def remove_old_predictions(
    place: Workplace, project: Project, lock_s: float, *, now: float, budget_s: float = CLEANING_S
) -> bool:
    """Delete this backend's predictions that no annotator is working on any more; whether some are left.

    The editor names the prediction that an annotator began with, and Label Studio refuses Submit once that is gone.
    `lock_s` is for how long it reserves a task for an annotator, `now` Unix time, and `project` as seen before this
    look published anything. A large version goes one by one for about `budget_s` seconds, the rest at the next call:
    Label Studio deletes a version in one transaction, during which annotators on SQLite could not submit (a minute for
    10,000).
    """
    deadline = time.monotonic() + budget_s
    removable = _removable(place, project, lock_s, now)
    if removable:
        note_annotations(place)  # which of them began with a prediction is not known any more once that is gone
    for version, count in removable.items():
        if count <= SMALL_VERSION:
            place.client.delete_version(project.id, version)
            continue
        while found := place.client.predictions_of(project.id, version, LISTED_AT_ONCE):
            for prediction in found:
                if time.monotonic() > deadline:
                    return True
                with suppress(NotFound):  # gone together with its task
                    place.client.delete_prediction(prediction)
    return False


def _removable(place: Workplace, project: Project, lock_s: float, now: float) -> dict[str, int]:
    """Versions that have been of no use for `lock_s` seconds, and how many predictions each has in Label Studio.

    Of use are the served version and its parent, the one that Label Studio's queue follows, and one whose round is
    under way. Numbers say nothing: after a rollback the versions to be removed are larger than the served one.
    """
    held = place.client.model_versions(project.id)
    begun = unfinished(place.folder)  # between the two: what a round has pushed is seen as begun or as current
    current = place.folder.registry.current()
    if current is None:
        return {}
    parent = place.folder.registry.get(current).parent
    used = {current, parent, project.model_version, begun.version if begun else None}
    is_first_ours = has_first_queue(place.folder)
    own = [v for v in held if NAME.fullmatch(v) or (v == FIRST_VERSION and is_first_ours)]
    retired_s = Retired(place.folder.path).count([v for v in own if v not in used], now)
    return {version: held[version] for version, seconds in retired_s.items() if seconds >= lock_s}


def largest_number(client: LabelStudio, project_id: int) -> int:
    """The largest version number that Label Studio holds predictions of, 0 without any."""
    return max((version_number(v) for v in client.model_versions(project_id) if NAME.fullmatch(v)), default=0)
