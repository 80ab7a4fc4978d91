"""What there is to see of a project, gathered from its folder and the queue: nothing is asked of Label Studio."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from redis import Redis
from redis.exceptions import RedisError

from backend.care.offers import Offer, like_offers
from backend.care.rollback import versions_to_go_back_to
from backend.care.words import Discretion
from backend.errors import BackendError
from backend.project.folder import ProjectFolder
from backend.queue import marks
from backend.queue.jobs import round_job
from backend.rounds.findings import Findings
from backend.rounds.first_queue import first_order_in_words
from backend.rounds.folder import CANCELLED, FAILED, REFUSED, STATES, Round, all_rounds
from backend.rounds.history import History, Measured, read_history
from backend.rounds.payoff import payoff_in_words, read_payoff
from backend.rounds.standing import Standing, read_standing
from backend.rounds.steps import STEPS
from backend.rounds.summary import Next, Summary, read_summary
from backend.rounds.trial import fallback_in_words, round_of_queue
from model.errors import BadVersion
from model.registry import Registry, version_number

logger = logging.getLogger(__name__)

SHOWN_NEXT = 12

IN_WORDS = {
    "read": "Reading the annotations",
    "prepare": "Preparing the network",
    "train": "Training",
    "evaluate": "Measuring on the validation images",
    "rank": "Ordering the open images",
    "push": "Sending the pre-labels",
    "make current": "Serving the new version",
    "publish": "Serving the new version",
}


@dataclass(frozen=True)
class Running:
    """A round under way: what it does, how far that is (0..100, None if unknown), and what is told of it.

    is_at_work  False while it waits for a worker, or for another try after an error
    """

    number: int
    step: str
    percent: int | None
    seconds_left: float | None
    is_at_work: bool
    error: str | None
    can_be_cancelled: bool


@dataclass(frozen=True)
class ClassCount:
    """A class with its annotated objects, those for training and those for validation."""

    name: str
    train: int
    val: int


@dataclass(frozen=True)
class Certainties:
    """A version's histogram of the open tasks' certainties, and of how many nothing was found in."""

    version: str
    counts: tuple[int, ...]
    without: int


@dataclass(frozen=True)
class Overview:
    """Everything that a page shows of one project.

    served       name of the served version; None before the first
    verdict      what came of the last round, in words
    stopping     what hardly pays any more, in words
    certainties  of the served version, then of the one before it; those of which nothing was kept are missing
    order        in which order images come before there is a version, then where it is not what the settings say
    front        the next tasks, the first one first
    offers       commands that find more of the same
    go_back_to   versions that a rollback could serve, the likeliest first
    is_wanted    whether somebody asked for a round that has not begun
    has_queue    whether Redis answers; without it nothing is known of a round's progress
    """

    project_id: int
    uid: str
    served: str | None
    standing: Standing | None
    running: Running | None
    verdict: str | None
    stopping: tuple[str, ...]
    history: History
    classes: tuple[ClassCount, ...]
    certainties: tuple[Certainties, ...]
    order: str
    front: tuple[Next, ...]
    findings: Findings | None
    offers: tuple[Offer, ...]
    go_back_to: tuple[str, ...]
    is_wanted: bool
    has_queue: bool

    @property
    def title(self) -> str:
        """The project's name, or its number where it has none, or no worker has looked at it yet."""
        return (self.standing.title.strip() if self.standing else "") or f"Project {self.project_id}"

    @property
    def measured(self) -> Measured | None:
        """The served version as it was measured."""
        return next((one for one in self.history.versions if one.version == self.served), None)


def look_over(folder: ProjectFolder, redis: Redis | None, words: Discretion) -> Overview:
    """Gather what there is to see; texts that may hold what viewers must not see pass through `words`."""
    registry, history = folder.registry, read_history(folder)
    served, standing, rounds = registry.current(), read_standing(folder), all_rounds(folder)
    summary = read_summary(registry, served) if served else None
    job, is_wanted, has_queue = _ask(folder, redis)
    classes, front = _classes(registry, served), _front(standing, summary, served)
    objects = {one.name: one.train for one in classes}
    return Overview(
        project_id=folder.project_id,
        uid=folder.uid,
        served=served,
        standing=words.of_standing(standing) if standing else None,
        running=_running(rounds, job, words),
        verdict=_verdict(rounds, served, history, words),
        stopping=tuple(map(_as_sentence, payoff_in_words(read_payoff(folder)))),
        history=history,
        classes=classes,
        certainties=tuple(_certainties(registry, served, summary, history)),
        order=_order(folder, words),
        front=front,
        findings=summary.findings if summary else None,
        offers=like_offers(folder.project_id, objects, front[0].picture.task if front else None),
        go_back_to=versions_to_go_back_to(folder) if served else (),
        is_wanted=is_wanted,
        has_queue=has_queue,
    )


def _ask(folder: ProjectFolder, redis: Redis | None) -> tuple[dict | None, bool, bool]:
    """The job of a project's round, whether a round is wanted, and whether the queue answers at all."""
    if redis is None:
        return None, False, False
    try:
        return round_job(redis, folder.uid), marks.is_forced(redis, folder.uid), True
    except RedisError as err:
        logger.warning("Redis does not answer: %s", err)
        return None, False, False


def _running(rounds: Sequence[Round], job: dict | None, words: Discretion) -> Running | None:
    if not rounds or not rounds[-1].is_unfinished:
        return None
    current = rounds[-1]
    is_at_work = job is not None and job["job_status"] == "started"
    progress = (job["progress"] if job and is_at_work else None) or {}
    step = progress.get("step", STEPS[STATES.index(current.state.state)][0])
    error = current.state.error
    return Running(
        number=current.state.number,
        step=IN_WORDS.get(step, step),
        percent=progress.get("percent"),
        seconds_left=progress.get("seconds_left"),
        is_at_work=is_at_work,
        error=words.of(error) if error and not is_at_work else None,
        can_be_cancelled=current.can_be_cancelled,
    )


def _verdict(rounds: Sequence[Round], served: str | None, history: History, words: Discretion) -> str | None:
    """What came of the newest round that is over."""
    over = next((one for one in reversed(rounds) if not one.is_unfinished), None)
    if over is None:
        return None
    reason, goes_on = words.of(over.state.reason or ""), f"; {served} goes on" if served else ""
    if over.state.state == CANCELLED:
        return f"Round {over.state.number} was cancelled{goes_on}."
    if over.state.state == FAILED:
        return f"Round {over.state.number} failed and waits for new annotations{goes_on}: {reason}."
    if over.state.state == REFUSED:
        return f"{over.version} was refused{goes_on}: {reason}."
    if over.version in history.rolled_back:
        return f"{over.version} was accepted, and rolled back since{goes_on}: {reason}."
    return f"{over.version} was accepted: {reason}."


def _classes(registry: Registry, served: str | None) -> tuple[ClassCount, ...]:
    """The classes of the served version, and what it learned from and was measured on."""
    if served is None:
        return ()
    try:
        version = registry.get(served)
    except BadVersion as err:
        logger.warning("%s", err)
        return ()
    train = (version.metrics.get("training") or {}).get("objects") or {}
    val = version.metrics.get("per_class") or {}
    return tuple(
        ClassCount(name, int(train.get(name, 0)), int((val.get(name) or {}).get("instances") or 0))
        for name in version.classes
    )


def _certainties(
    registry: Registry, served: str | None, summary: Summary | None, history: History
) -> Iterator[Certainties]:
    """Of the served version, and of the newest accepted one before it that is still known."""
    if served is None or summary is None:
        return
    yield Certainties(served, summary.certainties, summary.without)
    for one in reversed(history.versions):
        was_served = one.promoted and one.version not in history.rolled_back
        if was_served and version_number(one.version) < version_number(served) and one.version in registry.names():
            before = read_summary(registry, one.version)
            if before is not None:
                yield Certainties(one.version, before.certainties, before.without)
                return


def _order(folder: ProjectFolder, words: Discretion) -> str:
    try:
        ranked = round_of_queue(folder)
        fallback = fallback_in_words(folder.config(), ranked) if ranked else ""
        return words.of(_as_sentence(fallback)) if ranked else first_order_in_words(folder)
    except BackendError as err:  # of the settings, which `maskal status` tells
        logger.warning("%s", err)
        return ""


def _as_sentence(line: str) -> str:
    return f"{line[0].upper()}{line[1:]}." if line else ""


def _front(standing: Standing | None, summary: Summary | None, served: str | None) -> tuple[Next, ...]:
    if served is None:
        return standing.front if standing else ()
    done = set(standing.done) if standing and standing.version == served else set()
    front = summary.front if summary else ()
    return tuple(one for one in front if one.picture.task not in done)[:SHOWN_NEXT]
