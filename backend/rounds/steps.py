"""One round: read > train > evaluate > rank > push > make current > publish; resumable after each step."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

from backend.errors import DamagedTraining
from backend.label_studio.client import Task
from backend.project.workplace import Workplace
from backend.rounds import task_queue
from backend.rounds.computing import open_feature_cache
from backend.rounds.copies_last import with_copies_last
from backend.rounds.evaluation_copies import left_out_of_evaluation, note_left_out
from backend.rounds.folder import REFUSED, STATES, Report, Round
from backend.rounds.group import processes_of, train_together
from backend.rounds.learning import evaluate_round, load_engine, train_round
from backend.rounds.reading import read
from backend.rounds.scores import Scores
from backend.rounds.scoring import score_tasks
from backend.rounds.snapshots import Snapshot, split_of
from backend.rounds.summary import FRONT, write_summary
from model.engines.base import Engine

logger = logging.getLogger(__name__)


def run(place: Workplace, current: Round, report: Report) -> None:
    """Take a round from where it is to its end; whatever a step raises stops it there, to be resumed."""
    while current.is_unfinished:
        step = STATES.index(current.state.state)
        started = time.monotonic()
        name, action = STEPS[step]
        report(name, 0.0)
        try:
            conclusion = action(place, current, report)
        finally:
            spent = current.state.seconds.get(name, 0.0) + time.monotonic() - started
            current.state.seconds[name] = round(spent, 2)
        current.state.state = conclusion or STATES[step + 1]
        current.state.error, current.state.begun, current.state.waits, current.state.retry_at = None, 1, 0, 0.0
        current.save()
        logger.info("project %s: round %d is %s", place.folder.uid, current.state.number, current.state.state)


def _train(place: Workplace, current: Round, report: Report) -> str | None:
    note_left_out(place, current, lambda: open_feature_cache(place))
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
    engine = load_engine(place, current.version)
    snapshot = current.snapshot() or Snapshot(())
    tasks, annotated = list[Task](), dict[int, str]()
    for task in place.client.tasks(place.folder.project_id):
        if task.is_labeled:
            annotated[task.id] = split_of(task.data, task.id, place.folder.uid)
        else:
            tasks.append(task)
    with Scores(current.scores) as scores:
        _score_all(place, current, engine, tasks, scores, report)
        rows = task_queue.order_tasks(
            scores.without_regions([task.id for task in tasks]),
            {t.id: split_of(t.data, t.id, place.folder.uid) for t in tasks},
            place.config,
            number=current.state.number,
            annotated_validation=snapshot.count("val") - len(left_out_of_evaluation(current)),
        )
        rows = with_copies_last(place, rows, annotated)
        complete = partial(task_queue.with_regions, regions_of=scores.regions, config=place.config)
        place.folder.registry.write_ranking(current.version, complete(rows))
        shown = [*complete(rows[:FRONT]), *rows[FRONT:]]
    write_summary(place, current, shown, {task.id: task.data for task in tasks})
    return None


def _score_all(
    place: Workplace, current: Round, engine: Engine, tasks: Sequence[Task], scores: Scores, report: Report
) -> None:
    """Add the scores that are missing, each as soon as it is known; unreadable images are noted and left out."""
    missing = [task for task in tasks if task.id not in scores]
    for index, (task, scored) in enumerate(score_tasks(place, engine, current.version, missing), start=1):
        if scored is not None:
            scores.add(task.id, scored)
        report("rank", (len(tasks) - len(missing) + index) / len(tasks))


def _push(place: Workplace, current: Round, report: Report) -> str | None:
    with place.folder.registry.open_ranking(current.version) as rows:
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
