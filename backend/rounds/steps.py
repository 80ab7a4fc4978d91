"""One round: read > train > evaluate > rank > push > make current > publish; resumable after each step."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from backend.errors import DamagedTraining
from backend.label_studio.client import Task
from backend.project.workplace import Workplace
from backend.rounds import task_queue
from backend.rounds.choosing import Means, known_objects, onlooker_for
from backend.rounds.folder import REFUSED, STATES, Report, Round
from backend.rounds.group import processes_of, train_together
from backend.rounds.learning import evaluate_round, load_engine, train_round
from backend.rounds.reading import read
from backend.rounds.scoring import Scored, score_tasks
from backend.rounds.seen_objects import encoded_row, read_seen
from backend.rounds.snapshots import Snapshot, split_of
from backend.rounds.summary import write_summary
from sampling.ranking import Moment

logger = logging.getLogger(__name__)


def run(place: Workplace, current: Round, report: Report) -> None:
    """Take a round from where it is to its end; whatever a step raises stops it there, to be resumed."""
    while current.is_unfinished:
        step = STATES.index(current.state.state)
        started = time.monotonic()
        name, action = STEPS[step]
        report(name, 0.0)
        conclusion = action(place, current, report)
        current.state.seconds[name] = round(time.monotonic() - started, 2)
        current.state.state = conclusion or STATES[step + 1]
        current.state.error, current.state.begun, current.state.waits, current.state.retry_at = None, 1, 0, 0.0
        current.save()
        logger.info("project %s: round %d is %s", place.folder.uid, current.state.number, current.state.state)


def _train(place: Workplace, current: Round, report: Report) -> str | None:
    processes = processes_of(place)
    if processes > 1:
        train_together(place, current, processes, report)
    else:
        train_round(place, current, report)
    return None


def _evaluate(place: Workplace, current: Round, report: Report) -> str | None:
    try:
        version = evaluate_round(place, current, report)
    except DamagedTraining as err:
        logger.warning("project %s: %s", place.folder.uid, err)
        return "read"
    current.state.reason = version.reason
    return None if version.promoted else REFUSED


def _rank(place: Workplace, current: Round, report: Report) -> str | None:
    snapshot = current.snapshot() or Snapshot(())
    tasks = [t for t in place.client.tasks(place.folder.project_id) if not t.is_labeled]
    means = Means(load_engine(place, current.version), onlooker_for(place))
    scored = _score_all(place, current, means, tasks, report)
    known = known_objects(place, current, means)
    hold_out_last = snapshot.count("val") >= task_queue.ENOUGH_VALIDATION
    rows = task_queue.order_tasks(
        scored,
        {t.id: split_of(t.data, t.id, place.folder.uid) for t in tasks},
        place.config,
        Moment(current.state.number, hold_out_last, known),
    )
    place.folder.registry.write_ranking(current.version, rows)
    write_summary(place, current, rows, {task.id: task.data for task in tasks})
    return None


def _score_all(
    place: Workplace, current: Round, means: Means, tasks: Sequence[Task], report: Report
) -> dict[int, Scored]:
    """Scores of the tasks, each kept on disk as soon as it is known; unreadable images are noted and left out."""
    done, seen = _stored_scores(current.scores), read_seen(current.seen_objects)
    missing = [task for task in tasks if task.id not in done or (means.onlooker and task.id not in seen)]
    coming = score_tasks(place, means.engine, current.version, missing, means.onlooker)
    with current.scores.open("a") as file, current.seen_objects.open("ab") as objects:
        for index, (task, scored) in enumerate(coming, start=1):
            if scored is not None:
                done[task.id] = replace(scored, seen=None)
                if scored.seen:
                    objects.write(encoded_row(task.id, scored.seen))
                    objects.flush()
                file.write(json.dumps({"task": task.id, **scored.as_json()}) + "\n")
                file.flush()
            report("rank", (len(tasks) - len(missing) + index) / len(tasks))
    seen = read_seen(current.seen_objects) if means.onlooker else {}
    return {task.id: replace(done[task.id], seen=seen.get(task.id)) for task in tasks if task.id in done}


def _stored_scores(path: Path) -> dict[int, Scored]:
    scores = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            row: dict[str, Any] = json.loads(line)
            task = int(row.pop("task"))
            scores[task] = Scored(**row)
        except (ValueError, KeyError, TypeError):
            logger.warning("a torn line in %s is left out; its task is scored again", path.name)
    return scores


def _push(place: Workplace, current: Round, report: Report) -> str | None:
    rows = place.folder.registry.read_ranking(current.version)
    place.pusher(current.version).push(rows, lambda share: report("push", share))
    return None


def _make_current(place: Workplace, current: Round, report: Report) -> str | None:
    place.folder.registry.set_current(current.version)
    return None


def _publish(place: Workplace, current: Round, report: Report) -> str | None:
    task_queue.publish(place.client, place.folder.registry, place.client.project(place.folder.project_id))
    return None


STEPS: tuple[tuple[str, Callable[[Workplace, Round, Report], str | None]], ...] = (
    ("read", read),
    ("train", _train),
    ("evaluate", _evaluate),
    ("rank", _rank),
    ("push", _push),
    ("make current", _make_current),
    ("publish", _publish),
)
"""The action that leads from each of STATES to the next one; it returns another state to be in, or None."""
