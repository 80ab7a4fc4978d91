"""Turns at the worker that computes: a project's long round makes way for another project's."""

from __future__ import annotations

import logging
import time

from redis import Redis
from redis.exceptions import RedisError

from backend.queue.jobs import RUN_ROUND, is_another_waiting
from backend.rounds.folder import Round

logger = logging.getLogger(__name__)

SHARE_S = 30.0
"""How long a round computes at least before it makes way: longer than it takes to take it up again, as a rule."""

DIVISIBLE = ("train", "rank")
"""Steps that take long, and that go on where they were."""


class Turn:
    """One turn of a round, over once it has computed for `share_s` seconds and another project's round waits."""

    def __init__(self, redis: Redis, uid: str, current: Round, share_s: float) -> None:
        self._redis, self._uid, self._share_s = redis, uid, share_s
        self._checkpoint = current.checkpoint
        self._saved_at = self._last_save()
        self._began: float | None = None

    def is_over(self, step: str, share: float) -> bool:
        """Whether a step that has come so far, 0..1, should stop here; in training only where that has just been kept.

        What comes before the first part of a step, such as loading the network, is not part of the turn, so that each
        turn brings the round forward.
        """
        if step not in DIVISIBLE or not 0 < share < 1:
            return False
        now, saved_at = time.monotonic(), self._last_save()
        is_kept = step != "train" or saved_at != self._saved_at
        self._saved_at = saved_at
        if self._began is None:
            self._began = now
        return is_kept and now - self._began >= self._share_s and has_to_wait(self._redis, self._uid)

    def _last_save(self) -> int:
        """When the training was last kept; 0 if it was not."""
        try:
            return self._checkpoint.stat().st_mtime_ns
        except FileNotFoundError:
            return 0


def has_to_wait(redis: Redis, uid: str) -> bool:
    """Whether another project's round waits for the worker; nobody does where Redis is away."""
    try:
        return is_another_waiting(redis, RUN_ROUND, uid)
    except RedisError as err:
        logger.debug("nobody is known to wait, Redis does not answer: %s", err)
        return False
