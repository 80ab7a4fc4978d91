"""Jobs in a real Redis."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from redis import Redis
from rq import Queue
from rq.job import Job, JobStatus

from backend.demo.stack import environment_of
from backend.queue.jobs import (
    EXAMINE,
    FUNCTIONS_IN,
    HELP_RANK,
    ROUNDS,
    RUN_ROUND,
    SHORT,
    TIDY,
    describe,
    enqueue,
    has_worker,
    round_job,
    take_event,
)
from backend.queue.locks import held
from backend.queue.marks import DIRTY, is_forced, last_event
from backend.settings import Settings
from backend.workers import jobs
from tests.backend.conftest import UID, queued
from tests.e2e.waiting import wait_for


def test_every_kind_of_job_has_its_function() -> None:
    assert jobs.__name__ == FUNCTIONS_IN
    assert all(callable(getattr(jobs, kind.function)) for kind in (EXAMINE, RUN_ROUND, HELP_RANK, TIDY))


def test_a_job_that_another_release_enqueued_is_replaced(redis: Redis) -> None:
    job_id = RUN_ROUND.id_for(UID)
    Queue(ROUNDS, connection=redis).enqueue_call("backend.jobs.run_round", args=(UID,), job_id=job_id)
    assert enqueue(redis, RUN_ROUND, UID)
    assert queued(redis, ROUNDS) == [job_id]
    assert Job.fetch(job_id, connection=redis).func_name == "backend.workers.jobs.run_round"


def test_a_job_of_a_killed_worker_is_replaced(redis: Redis) -> None:
    assert enqueue(redis, RUN_ROUND, UID)
    job = Job.fetch("run_round-3-1700000000", connection=redis)
    Queue(ROUNDS, connection=redis).empty()
    job = Queue(ROUNDS, connection=redis).enqueue_call(jobs.run_round, args=(UID,), job_id=job.id)
    Queue(ROUNDS, connection=redis).remove(job.id)
    job.set_status(JobStatus.STARTED)
    with held(redis, f"round:{UID}"):
        assert not enqueue(redis, RUN_ROUND, UID), "somebody works on it"
    assert enqueue(redis, RUN_ROUND, UID), "nobody does"
    assert queued(redis, ROUNDS) == [job.id]


def test_a_job_that_says_it_waits_and_stands_in_no_queue_is_replaced(redis: Redis) -> None:
    assert enqueue(redis, EXAMINE, UID)
    redis.delete(Queue(SHORT, connection=redis).key)  # as by a Redis with maxmemory-policy allkeys-lru
    assert queued(redis) == []
    assert enqueue(redis, EXAMINE, UID)
    assert queued(redis) == [EXAMINE.id_for(UID)]


def test_a_job_that_a_worker_has_just_taken_is_left_to_it(redis: Redis) -> None:
    enqueue(redis, EXAMINE, UID)
    queue = Queue(SHORT, connection=redis)
    redis.lmove(queue.key, queue.intermediate_queue_key)
    assert enqueue(redis, EXAMINE, UID)
    assert queued(redis) == [], "it would be done twice"


def test_a_job_that_goes_while_it_is_asked_about_does_no_harm(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    enqueue(redis, EXAMINE, UID)

    def found_and_deleted(job_id: str, connection: Redis) -> Job:
        monkeypatch.undo()
        job = Job.fetch(job_id, connection)
        job.delete()  # by another worker, that replaces it in this moment
        return job

    monkeypatch.setattr(Job, "fetch", found_and_deleted)
    assert (describe(redis, EXAMINE.id_for(UID)) or {})["job_status"] == "queued", "as it was"
    enqueue(redis, EXAMINE, UID)
    monkeypatch.setattr(Job, "fetch", found_and_deleted)
    assert enqueue(redis, EXAMINE, UID)
    assert queued(redis) == [EXAMINE.id_for(UID)]


def test_a_job_tells_its_state_until_it_is_gone(redis: Redis) -> None:
    enqueue(redis, RUN_ROUND, UID)
    described = round_job(redis, UID)
    assert described["job_status"] == "queued" and described["progress"] is None
    assert describe(redis, "no-such-job") is None


def test_an_event_is_noted_with_all_that_it_means(redis: Redis) -> None:
    assert take_event(redis, UID, is_forced=False) == "run_round-3-1700000000"
    first = redis.zscore(DIRTY, UID)
    assert first is not None and last_event(redis, UID) is not None and not is_forced(redis, UID)
    take_event(redis, UID, is_forced=True)
    assert is_forced(redis, UID)
    assert redis.zscore(DIRTY, UID) == first, "a burst of events must not put the look off"


@pytest.fixture
def worker(redis: Redis, settings: Settings) -> Iterator[None]:
    """Of the queue of short jobs."""
    argv = [sys.executable, "-m", "backend.cli", "worker", "--queue", SHORT]
    process = subprocess.Popen(argv, env=environment_of(settings))
    try:
        wait_for(lambda: has_worker(redis, SHORT), "the worker", 60)
        yield
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.usefixtures("worker")
def test_a_worker_is_known_again_to_a_redis_that_lost_its_data(redis: Redis) -> None:
    redis.flushall()
    assert not has_worker(redis, SHORT)
    enqueue(redis, EXAMINE, "9.1700000000")  # which finds no such project
    wait_for(lambda: has_worker(redis, SHORT), "the worker, which works", 20)
