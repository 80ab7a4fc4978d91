from __future__ import annotations

import time

from redis import Redis

from backend.queue.locks import held, is_held
from tests.e2e.waiting import wait_for


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


def test_a_lock_that_redis_has_lost_is_ours_again(redis: Redis) -> None:
    with held(redis, "c", ttl_s=0.6) as mine:
        redis.flushall()
        wait_for(lambda: is_held(redis, "c"), "its renewal", 5)
        assert mine
    assert not is_held(redis, "c")


def test_a_lock_that_somebody_else_has_is_theirs(redis: Redis) -> None:
    with held(redis, "d", ttl_s=0.6) as mine:
        redis.set("maskal:lock:d", "another worker")
        wait_for(lambda: not mine, "the notice of it", 5)
    assert redis.get("maskal:lock:d") == b"another worker"
