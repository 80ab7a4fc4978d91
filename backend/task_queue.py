"""From a ranking to what Label Studio's queue serves: pushing predictions and publishing a version."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from backend.client import LabelStudio
from backend.config import ProjectConfig
from backend.scoring import Scored
from model.rankings import RankedTask
from model.registry import NAME, Registry, version_number
from sampling.ranking import Candidate, RankingConfig, rank

logger = logging.getLogger(__name__)

PUSH_SIZE = 2000
ENOUGH_VALIDATION = 150
FIRST_VERSION = "maskal-r0"


def order_tasks(
    scored: Mapping[int, Scored],
    splits: Mapping[int, str],
    config: ProjectConfig,
    *,
    seed: int,
    annotated_validation: int,
) -> tuple[RankedTask, ...]:
    """The queue of the open tasks, first to be served first; validation tasks at their share, then last once enough."""
    candidates = [
        Candidate(task, float("nan") if s.certainty is None else s.certainty, is_held_out=splits[task] != "train")
        for task, s in scored.items()
    ]
    last = annotated_validation >= ENOUGH_VALIDATION
    places = rank(candidates, RankingConfig(strategy=config.strategy), seed, hold_out_last=last)
    return tuple(
        RankedTask(
            task=p.key,
            certainty=p.certainty,
            place=p.place,
            score=p.score,
            split=splits[p.key],
            regions=shown_regions(scored[p.key].regions, splits[p.key], config),
        )
        for p in places
    )


def shown_regions(regions: list[dict[str, Any]], split: str, config: ProjectConfig) -> list[dict[str, Any]]:
    """The pre-label that annotators see: none on held-out tasks where the project says so."""
    return regions if split == "train" or config.holdout_prelabels else []


def prediction(row: RankedTask, version: str) -> dict[str, Any]:
    """A ranked task as Label Studio's bulk import takes it."""
    return {"task": row.task, "score": row.score, "model_version": version, "result": row.regions}


def push(
    client: LabelStudio,
    project_id: int,
    version: str,
    rows: Sequence[RankedTask],
    on_progress: Callable[[float], None] = lambda share: None,
) -> int:
    """Send the predictions that the server does not hold yet, in large calls; returns how many were sent.

    Lists what has arrived first, so that going on after a kill or a time-out leaves no duplicates. Tasks
    deleted in the meantime are left out.
    """
    arrived = client.tasks_with_version(project_id, version)
    existing = {task.id for task in client.tasks(project_id)}
    missing = [row for row in rows if row.task not in arrived and row.task in existing]
    for start in range(0, len(missing), PUSH_SIZE):
        chunk = missing[start : start + PUSH_SIZE]
        client.import_predictions(project_id, [prediction(row, version) for row in chunk])
        on_progress(min(1.0, (start + len(chunk)) / len(missing)))
    logger.info(
        "project %d: %d predictions of %s pushed, %d were there", project_id, len(missing), version, len(arrived)
    )
    return len(missing)


def publish(client: LabelStudio, registry: Registry, project_id: int) -> None:
    """Make Label Studio's queue follow the served version, by one call where it does not yet.

    Label Studio refuses a version without any prediction, as there is when no task is open; then it stays as it is
    until a task is scored.
    """
    current = registry.current()
    if current is None or client.project(project_id).model_version == current:
        return
    if current in client.model_versions(project_id):
        client.update_project(project_id, model_version=current)
        logger.info("project %d: the queue now follows %s", project_id, current)


def remove_old_predictions(client: LabelStudio, registry: Registry, project_id: int) -> list[str]:
    """Delete this backend's predictions of all versions but the served one and its parent; returns those deleted."""
    current = registry.current()
    if current is None:
        return []
    keep = {current, registry.get(current).parent}
    served = version_number(current)
    old = [v for v in client.model_versions(project_id) if NAME.fullmatch(v) and v not in keep]
    old = [version for version in old if version_number(version) < served]
    for version in old:
        client.delete_version(project_id, version)
    return old


def largest_number(client: LabelStudio, project_id: int) -> int:
    """The largest version number that Label Studio holds predictions of, 0 without any."""
    return max((version_number(v) for v in client.model_versions(project_id) if NAME.fullmatch(v)), default=0)
