"""One round: read > train > evaluate > rank > push > make current > publish; resumable after each step."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from backend.errors import DamagedTraining
from backend.label_studio.client import Task
from backend.project.workplace import Workplace
from backend.rounds import task_queue
from backend.rounds.choosing import Means, known_objects, onlooker_for, strategy_of
from backend.rounds.computing import open_feature_cache
from backend.rounds.copies_last import with_copies_last
from backend.rounds.engines import load_engine
from backend.rounds.evaluation_copies import left_out_of_evaluation, note_left_out
from backend.rounds.folder import REFUSED, STATES, Report, Round, all_rounds, ended_rounds
from backend.rounds.group import processes_of, train_together
from backend.rounds.judging import evaluate_round
from backend.rounds.learning import train_round
from backend.rounds.ledger import Ledger
from backend.rounds.payoff import note_payoff
from backend.rounds.reading import read
from backend.rounds.reasons import Reasons
from backend.rounds.scored import Scored
from backend.rounds.scores import Scores
from backend.rounds.seen_objects import read_seen
from backend.rounds.sharing import Scoring, Team
from backend.rounds.snapshots import Snapshot, split_of
from backend.rounds.summary import FRONT, write_summary
from sampling.ranking import Moment

logger = logging.getLogger(__name__)


def run(place: Workplace, current: Round, report: Report, team: Team | None = None) -> None:
    """Take a round from where it is to its end; whatever a step raises stops it there, to be resumed.

    Who is in the `team` helps to rank.
    """
    while current.is_unfinished:
        step = STATES.index(current.state.state)
        started = time.monotonic()
        name, action = STEPS[step]
        report(name, 0.0)
        try:
            conclusion = action(place, current, report, team)
        finally:
            spent = current.state.seconds.get(name, 0.0) + time.monotonic() - started
            current.state.seconds[name] = round(spent, 2)
        current.state.state = conclusion or STATES[step + 1]
        current.state.error, current.state.begun, current.state.waits, current.state.retry_at = None, 1, 0, 0.0
        current.save()
        logger.info("project %s: round %d is %s", place.folder.uid, current.state.number, current.state.state)


def _read(place: Workplace, current: Round, report: Report, team: Team | None) -> str | None:
    read(place, current, report)
    return None


def _train(place: Workplace, current: Round, report: Report, team: Team | None) -> str | None:
    note_left_out(place, current, lambda: open_feature_cache(place))
    processes = processes_of(place)
    if processes > 1:
        train_together(place, current, processes, report)
    else:
        train_round(place, current, report)
    return None


def _evaluate(place: Workplace, current: Round, report: Report, team: Team | None) -> str | None:
    try:
        version = evaluate_round(place, current, report)
    except DamagedTraining as err:
        logger.warning("project %s: %s", place.folder.uid, err)
        return "read"
    note_payoff(place.folder, place.config, version.name)
    current.state.reason = version.reason
    return None if version.promoted else REFUSED


def _rank(place: Workplace, current: Round, report: Report, team: Team | None) -> str | None:
    snapshot = current.snapshot() or Snapshot(())
    means = Means(load_engine(place, current.version), onlooker_for(place, current))
    tasks, annotated = list[Task](), dict[int, str]()
    for task in place.client.tasks(place.folder.project_id):
        if task.is_labeled:
            annotated[task.id] = split_of(task.data, task.id, place.folder.uid)
        else:
            tasks.append(task)
    with Scores(current.scores) as scores:
        with Ledger(current, scores, is_looked_at=bool(means.onlooker)) as ledger:
            Scoring(place, current, means, ledger, report).run(tasks, team)
        scored = _with_seen(current, means, scores.without_regions([task.id for task in tasks]))
        splits = {t.id: split_of(t.data, t.id, place.folder.uid) for t in tasks}
        ranking = place.config.ranking_config(ended_rounds(place.folder) + 1)
        rows = task_queue.order_tasks(scored, splits, ranking, _moment(place, current, snapshot, means))
        reasons = Reasons.of(strategy_of(place, means), means.engine.classes, scored)
        rows = reasons.told(with_copies_last(place, rows, annotated))
        complete = partial(task_queue.with_regions, regions_of=scores.regions, config=place.config)
        place.folder.registry.write_ranking(current.version, complete(rows))
        shown = [*complete(rows[:FRONT]), *rows[FRONT:]]
    write_summary(place, current, shown, {task.id: task.data for task in tasks})
    return None


def _with_seen(current: Round, means: Means, scored: Mapping[int, Scored]) -> Mapping[int, Scored]:
    """The scores with what the untouched backbone saw, where somebody looked."""
    if not means.onlooker:
        return scored
    seen = read_seen(current.seen_objects)
    return {task: replace(one, seen=seen.get(task)) for task, one in scored.items()}


def _moment(place: Workplace, current: Round, snapshot: Snapshot, means: Means) -> Moment:
    """When the queue is ordered: in which round, knowing what, and whether enough validation images are annotated."""
    left_out = left_out_of_evaluation(current)
    validation = [entry for entry in snapshot.entries if entry.split == "val" and entry.task not in left_out]
    is_enough = len(validation) >= task_queue.ENOUGH_VALIDATION
    return Moment(current.state.number, is_enough, known_objects(place, current, means))


def _push(place: Workplace, current: Round, report: Report, team: Team | None) -> str | None:
    with place.folder.registry.open_ranking(current.version) as rows:
        place.pusher(current.version).push(rows, lambda share: report("push", share))
    return None


def _make_current(place: Workplace, current: Round, report: Report, team: Team | None) -> str | None:
    place.folder.registry.set_current(current.version)
    return None


def _publish(place: Workplace, current: Round, report: Report, team: Team | None) -> str | None:
    task_queue.publish(place.client, place.folder.registry, place.client.project(place.folder.project_id))
    for ended in all_rounds(place.folder):  # this one, and what a release before left of others
        ended.tidy()
    return None


STEPS: tuple[tuple[str, Callable[[Workplace, Round, Report, Team | None], str | None]], ...] = (
    ("read", _read),
    ("train", _train),
    ("evaluate", _evaluate),
    ("rank", _rank),
    ("push", _push),
    ("make current", _make_current),
    ("publish", _publish),
)
"""The action that leads from each of STATES to the next one; it returns another state to be in, or None."""
