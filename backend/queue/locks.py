"""Locks in Redis that are renewed while held, and run out by themselves when their holder dies."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from redis import Redis
from redis.exceptions import LockError, RedisError
from redis.lock import Lock

logger = logging.getLogger(__name__)

PREFIX = "maskal:lock:"

RETRY_S = 1.0
"""How soon a lock is renewed once a Redis that was away answers again: before the workers have found work there."""


class Hold:
    """A lock that we hold, as long as it is true; false where somebody else holds it, or has taken it from us."""

    def __init__(self, lock: Lock, is_ours: bool) -> None:
        self._lock = lock
        self._is_ours = is_ours

    def __bool__(self) -> bool:
        return self._is_ours

    def renew(self, ttl_s: float) -> None:
        """Hold it for `ttl_s` more seconds, also where Redis has lost it and nobody took it; RedisError if it is away.

        What somebody else took is theirs: a process that was stopped for longer than the lock lives may find that.
        """
        try:
            self._lock.reacquire()
        except LockError:
            self._is_ours = self._lock.do_acquire(str(self._lock.local.token, "ascii"))
            logger.warning("lock %s had run out; %s", self._lock.name, "renewed" if self._is_ours else "others have it")

    def release(self) -> None:
        """Let others have it."""
        try:
            self._lock.release()
        except (LockError, RedisError) as err:
            logger.warning("lock %s had run out before its release: %s", self._lock.name, err)


@contextmanager
def held(redis: Redis, name: str, *, ttl_s: float = 60.0, wait_s: float = 0.0) -> Iterator[Hold]:
    """Hold a named lock for the block; yields a false hold if somebody else has it, and still does after `wait_s`.

    A thread renews the lock every third of `ttl_s`, so that a killed holder blocks the others for at most `ttl_s`.
    The hold turns false where that finds that somebody else has it now.
    """
    lock = redis.lock(PREFIX + name, timeout=ttl_s, thread_local=False)
    hold = Hold(lock, lock.acquire(blocking=wait_s > 0, blocking_timeout=wait_s or None))
    if not hold:
        yield hold
        return
    done = threading.Event()
    renewer = threading.Thread(target=_renew, args=(hold, ttl_s, done), name=f"renew {name}", daemon=True)
    renewer.start()
    try:
        yield hold
    finally:
        done.set()
        renewer.join()
        if hold:
            hold.release()


def _renew(hold: Hold, ttl_s: float, done: threading.Event) -> None:
    wait_s = ttl_s / 3
    while hold and not done.wait(wait_s):
        try:
            hold.renew(ttl_s)
            wait_s = ttl_s / 3
        except RedisError as err:
            logger.warning("a lock could not be renewed, it is tried again: %s", err)
            wait_s = min(RETRY_S, ttl_s / 3)


def is_held(redis: Redis, name: str) -> bool:
    """Whether anybody holds a lock."""
    return bool(redis.exists(PREFIX + name))
