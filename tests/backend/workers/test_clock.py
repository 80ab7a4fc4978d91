"""What is enqueued when, in a real Redis."""

from __future__ import annotations

import time
from dataclasses import replace

from redis import Redis
from rq import Queue

from backend.project.folder import connect_folder
from backend.queue.jobs import SHORT, hint
from backend.queue.locks import held
from backend.queue.marks import DIRTY, address_of_worker
from backend.settings import Settings
from backend.workers import clock
from tests.backend.conftest import UID, queued


def test_hints_wait_a_little_and_become_one_job(redis: Redis, settings: Settings, monkeypatch) -> None:
    redis.set(clock.RECONCILED, 1)
    redis.set(clock.TIDIED, 1)
    for _ in range(20):
        hint(redis, UID)
    clock.tick(redis, settings)
    assert queued(redis) == [], "the debounce has not passed"
    monkeypatch.setattr(clock, "DEBOUNCE_S", 0)
    clock.tick(redis, settings)
    clock.tick(redis, settings)
    assert queued(redis) == ["examine-3-1700000000"]


def test_a_hint_during_a_look_is_kept_for_the_next(redis: Redis, settings: Settings, monkeypatch) -> None:
    redis.set(clock.RECONCILED, 1)
    redis.set(clock.TIDIED, 1)
    monkeypatch.setattr(clock, "DEBOUNCE_S", 0)
    with held(redis, f"examine:{UID}"):
        hint(redis, UID)
        clock.tick(redis, settings)
        assert queued(redis) == [] and redis.zscore(DIRTY, UID) is not None
    clock.tick(redis, settings)
    assert queued(redis) == ["examine-3-1700000000"] and redis.zscore(DIRTY, UID) is None


def test_what_somebody_did_goes_before_the_regular_looks(redis: Redis, settings: Settings, monkeypatch) -> None:
    monkeypatch.setattr(clock, "DEBOUNCE_S", 0)
    clock.tick(redis, settings)
    hint(redis, "9.1700000009")
    clock.tick(redis, settings)
    assert queued(redis)[:2] == ["examine-9-1700000009", "examine-3-1700000000"]


def test_every_project_is_looked_at_once_a_minute_also_after_a_flush(redis: Redis, settings: Settings) -> None:
    connect_folder(settings.data_dir, "4.1700000001")
    clock.tick(redis, settings)
    first = sorted(queued(redis))
    assert first == ["examine-3-1700000000", "examine-4-1700000001", "tidy-all"]
    Queue(SHORT, connection=redis).empty()
    clock.tick(redis, settings)
    assert queued(redis) == []
    redis.flushall()
    clock.tick(redis, settings)
    assert sorted(queued(redis)) == first


def test_the_worker_tells_which_label_studio_its_environment_names(redis: Redis, settings: Settings) -> None:
    clock.tick(redis, settings)
    assert address_of_worker(redis) is None
    clock.tick(redis, replace(settings, label_studio_url="http://studio:8080"))
    assert address_of_worker(redis) == "http://studio:8080"


def test_a_hint_from_before_the_clock_was_set_back_is_not_left_lying(redis: Redis, settings: Settings) -> None:
    redis.set(clock.RECONCILED, 1)
    redis.set(clock.TIDIED, 1)
    redis.zadd(DIRTY, {UID: time.time() + 3600})
    clock.tick(redis, settings)
    assert queued(redis) == ["examine-3-1700000000"]
