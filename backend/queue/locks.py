"""Locks in Redis that are renewed while held, and run out by themselves when their holder dies."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from redis import Redis
from redis.exceptions import LockError, RedisError

logger = logging.getLogger(__name__)

PREFIX = "maskal:lock:"


@contextmanager
def held(redis: Redis, name: str, *, ttl_s: float = 60.0, wait_s: float = 0.0) -> Iterator[bool]:
    """Hold a named lock for the block; yields False if somebody else holds it, and still does after `wait_s` seconds.

    A thread renews the lock every third of `ttl_s`, so that a killed holder blocks the others for at most `ttl_s`.
    """
    lock = redis.lock(PREFIX + name, timeout=ttl_s, thread_local=False)
    if not lock.acquire(blocking=wait_s > 0, blocking_timeout=wait_s or None):
        yield False
        return
    done = threading.Event()

    def renew() -> None:
        while not done.wait(ttl_s / 3):
            try:
                lock.reacquire()
            except (LockError, RedisError) as err:
                logger.warning("lock %s could not be renewed: %s", name, err)

    renewer = threading.Thread(target=renew, name=f"renew {name}", daemon=True)
    renewer.start()
    try:
        yield True
    finally:
        done.set()
        renewer.join()
        try:
            lock.release()
        except (LockError, RedisError) as err:
            logger.warning("lock %s had run out before its release: %s", name, err)


def is_held(redis: Redis, name: str) -> bool:
    """Whether anybody holds a lock."""
    return bool(redis.exists(PREFIX + name))
