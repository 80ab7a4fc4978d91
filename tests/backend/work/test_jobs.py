"""The queue against a real Redis."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from redis import Redis
from rq import Queue
from rq.job import Job, JobStatus

from backend.errors import QueueUnavailable
from backend.project.folder import connect_folder
from backend.queue.locks import held, is_held
from backend.settings import Settings
from backend.work import jobs
from tests.e2e.waiting import wait_for

UID = "3.1700000000"


@pytest.fixture
def redis(redis_url: str) -> Redis:
    connection = Redis.from_url(redis_url)
    connection.flushall()
    return connection


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    connect_folder(tmp_path, UID)
    return Settings(data_dir=tmp_path, redis_url=redis_url)


def queued(redis: Redis, queue: str = jobs.SHORT) -> list[str]:
    return list(Queue(queue, connection=redis).job_ids)


def test_hints_wait_a_little_and_become_one_job(redis: Redis, settings: Settings, monkeypatch) -> None:
    redis.set(jobs.RECONCILED, 1)
    redis.set(jobs.TIDIED, 1)
    for _ in range(20):
        jobs.hint(redis, UID)
    jobs.tick(redis, settings)
    assert queued(redis) == [], "the debounce has not passed"
    monkeypatch.setattr(jobs, "DEBOUNCE_S", 0)
    jobs.tick(redis, settings)
    jobs.tick(redis, settings)
    assert queued(redis) == ["examine-3-1700000000"]


def test_a_hint_during_a_look_is_kept_for_the_next(redis: Redis, settings: Settings, monkeypatch) -> None:
    redis.set(jobs.RECONCILED, 1)
    redis.set(jobs.TIDIED, 1)
    monkeypatch.setattr(jobs, "DEBOUNCE_S", 0)
    with held(redis, f"examine:{UID}"):
        jobs.hint(redis, UID)
        jobs.tick(redis, settings)
        assert queued(redis) == [] and redis.zscore(jobs.DIRTY, UID) is not None
    jobs.tick(redis, settings)
    assert queued(redis) == ["examine-3-1700000000"] and redis.zscore(jobs.DIRTY, UID) is None


def test_what_somebody_did_goes_before_the_regular_looks(redis: Redis, settings: Settings, monkeypatch) -> None:
    monkeypatch.setattr(jobs, "DEBOUNCE_S", 0)
    jobs.tick(redis, settings)
    jobs.hint(redis, "9.1700000009")
    jobs.tick(redis, settings)
    assert queued(redis)[:2] == ["examine-9-1700000009", "examine-3-1700000000"]


def test_every_project_is_looked_at_once_a_minute_also_after_a_flush(redis: Redis, settings: Settings) -> None:
    connect_folder(settings.data_dir, "4.1700000001")
    jobs.tick(redis, settings)
    first = sorted(queued(redis))
    assert first == ["examine-3-1700000000", "examine-4-1700000001", "tidy-all"]
    Queue(jobs.SHORT, connection=redis).empty()
    jobs.tick(redis, settings)
    assert queued(redis) == []
    redis.flushall()
    jobs.tick(redis, settings)
    assert sorted(queued(redis)) == first


def test_a_job_of_a_killed_worker_is_replaced(redis: Redis, monkeypatch) -> None:
    assert jobs._enqueue(redis, jobs.ROUNDS, jobs.run_round, UID)
    job = Job.fetch("run_round-3-1700000000", connection=redis)
    Queue(jobs.ROUNDS, connection=redis).empty()
    job = Queue(jobs.ROUNDS, connection=redis).enqueue_call(jobs.run_round, args=(UID,), job_id=job.id)
    Queue(jobs.ROUNDS, connection=redis).remove(job.id)
    job.set_status(JobStatus.STARTED)
    with held(redis, f"round:{UID}"):
        assert not jobs._enqueue(redis, jobs.ROUNDS, jobs.run_round, UID), "somebody works on it"
    assert jobs._enqueue(redis, jobs.ROUNDS, jobs.run_round, UID), "nobody does"
    assert queued(redis, jobs.ROUNDS) == [job.id]


def test_a_job_tells_its_state_until_it_is_gone(redis: Redis) -> None:
    jobs._enqueue(redis, jobs.ROUNDS, jobs.run_round, UID)
    described = jobs.round_job(redis, UID)
    assert described["job_status"] == "queued" and described["progress"] is None
    assert jobs.describe(redis, "no-such-job") is None


def test_a_dead_redis_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(QueueUnavailable, match=r"no Redis answers at redis://127\.0\.0\.1:9/0") as caught:
        jobs.open_redis(Settings(data_dir=tmp_path, redis_url="redis://:secret@127.0.0.1:9/0"))
    assert "secret" not in str(caught.value)


def test_a_lock_has_one_holder_is_renewed_and_released(redis: Redis) -> None:
    with held(redis, "a", ttl_s=0.6) as first, held(redis, "a") as second:
        assert first and not second
        until = time.monotonic() + 1.5
        wait_for(lambda: time.monotonic() > until, "more than the lock's life", 5)
        assert is_held(redis, "a")
    assert not is_held(redis, "a")


def test_a_lock_runs_out_when_its_holder_dies(redis: Redis) -> None:
    redis.lock("maskal:lock:b", timeout=0.5).acquire(blocking=False)
    with held(redis, "b") as mine:
        assert not mine
    wait_for(lambda: not is_held(redis, "b"), "the lock's end", 5)
    with held(redis, "b") as mine:
        assert mine
