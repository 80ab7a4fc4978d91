"""RQ's jobs: their kinds, putting one into the queue, asking how it is."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import RedisError
from rq import Queue, Worker
from rq.exceptions import NoSuchJobError, StopRequested
from rq.job import Job, JobStatus

from backend.queue.locks import is_held
from backend.queue.marks import force_round, note_change, note_event

logger = logging.getLogger(__name__)

ROUNDS, SHORT = "rounds", "short"
TIMEOUT_S = {ROUNDS: 24 * 3600, SHORT: 6 * 3600}
START_GRACE_S = 30.0
RETRY_S = 1.0
WORKER_TTL_S = 60
"""A worker without a job says about so often that it lives."""

FUNCTIONS_IN = "backend.workers.jobs"
"""The module that a worker takes a job's function from; named only, so that who enqueues needs not what they need."""


@dataclass(frozen=True)
class Kind:
    """A kind of job: its function's name, the queue that it waits in, and the lock that it holds while it works."""

    function: str
    queue: str
    lock: str

    def id_for(self, uid: str, seat: int = 0) -> str:
        """Id of a project's job; there is one of each kind at a time, or one for each seat."""
        return f"{self.function}-{uid.replace('.', '-')}" + (f"-{seat}" if seat else "")

    def lock_for(self, uid: str, seat: int = 0) -> str:
        """Name of the lock that a project's job holds, and whoever must have the project for himself."""
        return f"{self.lock}:{uid}" + (f":{seat}" if seat else "")


EXAMINE = Kind("examine", SHORT, "examine")
RUN_ROUND = Kind("run_round", ROUNDS, "round")
HELP_RANK = Kind("help_rank", ROUNDS, "help")
"""A second worker at a round's ranking, and a third: the only kind with seats, which count from 1."""

TIDY = Kind("tidy", SHORT, "tidy")


def hint(redis: Redis, uid: str, *, is_forced: bool = False) -> str:
    """Note that a project may have changed; it is examined a few seconds later. Returns the id of its round job."""
    if is_forced:
        force_round(redis, uid)
    note_change(redis, uid)
    return RUN_ROUND.id_for(uid)


def take_event(redis: Redis, uid: str, *, is_forced: bool) -> str:
    """As `hint`, for an event of Label Studio's."""
    note_event(redis, uid, is_forced=is_forced)
    return RUN_ROUND.id_for(uid)


def enqueue(redis: Redis, kind: Kind, uid: str, seat: int = 0, *, at_front: bool = False) -> bool:
    """Enqueue a project's job unless it waits or runs already; True if it was enqueued or waits.

    What somebody did goes `at_front` of the regular looks at all projects. A job that is marked as started although
    nobody holds its lock belongs to a killed worker and is replaced, and so is one that another release enqueued
    under a function's name that is no more, and one that is marked as waiting and stands in no queue: a Redis that
    was short of memory, or whose last writes were lost, may have kept the one and not the other.
    """
    name = f"{FUNCTIONS_IN}.{kind.function}"
    job = _find(redis, kind.id_for(uid, seat))
    status = job.get_status(refresh=False) if job is not None else None
    if job is not None and status == JobStatus.QUEUED and job.func_name == name:
        if _is_in_line(Queue(kind.queue, connection=redis), job.id):
            return True
        job = _find(redis, job.id)  # again: a worker may have begun it meanwhile
        status = job.get_status(refresh=False) if job is not None else None
    started_at = job.started_at if job is not None else None
    age_s = _age_s(started_at) if started_at else START_GRACE_S
    if is_held(redis, kind.lock_for(uid, seat)) or (status == JobStatus.STARTED and abs(age_s) < START_GRACE_S):
        return False
    if job is not None:
        job.delete()
    Queue(kind.queue, connection=redis).enqueue_call(
        name,
        args=(uid, seat) if seat else (uid,),
        job_id=kind.id_for(uid, seat),
        timeout=TIMEOUT_S[kind.queue],
        result_ttl=3600,
        failure_ttl=24 * 3600,
        at_front=at_front,
    )
    return True


def is_another_waiting(redis: Redis, kind: Kind, uid: str) -> bool:
    """Whether another project's job of this kind waits for a worker."""
    own, prefix = kind.id_for(uid), f"{kind.function}-"
    waiting = Queue(kind.queue, connection=redis).job_ids
    return any(job_id.startswith(prefix) and job_id != own for job_id in waiting)


def describe(redis: Redis, job_id: str) -> dict[str, Any] | None:
    """Status and progress of a job, None if there is none of that id (any more)."""
    job = _find(redis, job_id)
    if job is None:
        return None
    status = job.get_status(refresh=False)
    return {
        "job_status": status.value if isinstance(status, JobStatus) else str(status),
        "created_at": _iso(job.created_at),
        "enqueued_at": _iso(job.enqueued_at),
        "started_at": _iso(job.started_at),
        "ended_at": _iso(job.ended_at),
        "progress": job.get_meta().get("progress"),
    }


def round_job(redis: Redis, uid: str) -> dict[str, Any] | None:
    """Status and progress of a project's round job."""
    return describe(redis, RUN_ROUND.id_for(uid))


def has_worker(redis: Redis, queue: str) -> bool:
    """Whether a living RQ worker looks after a queue."""
    return count_workers(redis, queue) > 0


def count_workers(redis: Redis, queue: str) -> int:
    """How many living RQ workers look after a queue, on all machines together."""
    return len(Worker.all(queue=Queue(queue, connection=redis)))


def counts_of(redis: Redis, queue: str) -> dict[str, int]:
    """Number of a queue's jobs that wait, run, and failed within the last day."""
    found = Queue(queue, connection=redis)
    return {
        "waiting": found.count,
        "running": found.started_job_registry.count,
        "failed": found.failed_job_registry.count,
    }


def running_jobs(redis: Redis, queue: str) -> dict[str, float]:
    """Age in seconds of the oldest running job of each kind, by the name of its function."""
    ages: dict[str, float] = {}
    for worker in Worker.all(queue=Queue(queue, connection=redis)):
        job = worker.get_current_job()
        if job is not None and job.started_at is not None:
            function = job.func_name.rpartition(".")[2]
            ages[function] = max(_age_s(job.started_at), ages.get(function, 0.0))
    return ages


def run_jobs(redis: Redis, queue: str) -> None:
    """Run jobs of one queue, each in a forked process, until stopped; a Redis that is away is waited for.

    RQ's worker ends when Redis goes while a job runs. The job does not: it keeps its lock, and no other is begun.
    """
    while True:
        try:
            worker = _Worker([Queue(queue, connection=redis)], connection=redis, worker_ttl=WORKER_TTL_S)
            worker.work(logging_level="WARNING")
            if worker.is_stopped:
                return
            logger.error("the worker of the queue %s lost Redis; it goes on once that answers", queue)
            time.sleep(RETRY_S)
            if worker.is_stopped:
                return
        except RedisError as err:
            logger.error("Redis does not answer (%s); the queue %s waits for it", err, queue)
            time.sleep(RETRY_S)
        except StopRequested:
            return


class _Worker(Worker):
    """RQ's, which tells whether it was stopped or ended for another reason, and knows jobs that were handed back."""

    is_stopped = False

    def request_stop(self, signum: int, frame: Any) -> None:
        """As RQ does, which is called by the signal."""
        self.is_stopped = True
        super().request_stop(signum, frame)

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """As RQ does, which tells a Redis of a worker once: one that has lost its data since is told again."""
        if not self.connection.sismember(self.redis_workers_keys, self.key):
            self.connection.delete(self.key)
            self.register_birth()
        super().heartbeat(timeout, pipeline)

    def handle_exception(self, job: Job, *exc_info: Any) -> None:
        """As RQ does, which logs a traceback; not where a job ended because the worker stops, as it has said so."""
        if exc_info[0] is not SystemExit:
            super().handle_exception(job, *exc_info)


def _find(redis: Redis, job_id: str) -> Job | None:
    try:
        return Job.fetch(job_id, connection=redis)
    except NoSuchJobError:
        return None


def _is_in_line(queue: Queue, job_id: str) -> bool:
    """Whether a worker will take a job, or has just taken it."""
    return job_id in queue.job_ids or job_id in queue.intermediate_queue.get_job_ids()


def _age_s(moment: datetime) -> float:
    """Seconds since a moment as RQ keeps it, in UTC with or without saying so."""
    return time.time() - moment.replace(tzinfo=timezone.utc).timestamp()


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
