"""Several workers at one ranking: who is called, who has which piece, and when a helper is wanted elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from redis import Redis
from redis.exceptions import RedisError

from backend.queue.jobs import HELP_RANK, ROUNDS, RUN_ROUND, count_workers, enqueue
from backend.queue.locks import Hold, held, is_held
from backend.workers.turns import has_to_wait

logger = logging.getLogger(__name__)

PIECE_TTL_S = 30.0
"""How long other helpers leave a piece alone whose worker was killed."""

CALL_EVERY_S = 300.0
"""Helpers end where they are wanted elsewhere, or cannot help: so soon they are called again, and new workers, too."""

ASK_EVERY_S = 1.0


class Team:
    """The other workers, as the process sees them that runs a round.

    Where Redis is away there are none; it is asked again CALL_EVERY_S later.
    """

    def __init__(self, redis: Redis, uid: str) -> None:
        self._redis, self._uid = redis, uid
        self._called_at: float | None = None
        self._is_lost = False

    def has_others(self) -> bool:
        """Whether any other living worker looks after rounds."""
        return self._others() > 0

    def call(self) -> None:
        """Have a job wait for each other worker, behind the rounds that wait; at most every CALL_EVERY_S."""
        now = time.monotonic()
        if self._called_at is not None and now - self._called_at < CALL_EVERY_S:
            return
        self._called_at, self._is_lost = now, False
        try:
            for seat in range(1, self._others() + 1):
                enqueue(self._redis, HELP_RANK, self._uid, seat)
        except RedisError as err:
            self._lose(err)

    @contextmanager
    def taken(self, piece: str) -> Iterator[bool]:
        """Take a piece for the block; false if another worker has it."""
        with ExitStack() as stack:
            is_ours = True
            if not self._is_lost:
                try:
                    is_ours = bool(stack.enter_context(_held_piece(self._redis, self._uid, piece)))
                except RedisError as err:
                    self._lose(err)
            yield is_ours

    def _others(self) -> int:
        try:
            return max(0, count_workers(self._redis, ROUNDS) - 1)
        except RedisError as err:
            self._lose(err)
            return 0

    def _lose(self, err: RedisError) -> None:
        self._called_at, self._is_lost = time.monotonic(), True
        logger.warning("project %s: ranking goes on without other workers, Redis does not answer: %s", self._uid, err)


class Duty:
    """What a helper of a project's round is told; RedisError where Redis is away."""

    def __init__(self, redis: Redis, uid: str) -> None:
        self._redis, self._uid = redis, uid
        self._asked_at: float | None = None
        self._is_over = False

    def is_over(self) -> bool:
        """Whether no worker has the round any more, or another project's waits for this one; asked once a second."""
        now = time.monotonic()
        if self._asked_at is None or now - self._asked_at > ASK_EVERY_S:
            self._asked_at = now
            has_round = is_held(self._redis, RUN_ROUND.lock_for(self._uid))
            self._is_over = not has_round or has_to_wait(self._redis, self._uid)
        return self._is_over

    @contextmanager
    def taken(self, piece: str) -> Iterator[bool]:
        """Take a piece for the block; false if another worker has it."""
        with _held_piece(self._redis, self._uid, piece) as hold:
            yield bool(hold)


def _held_piece(redis: Redis, uid: str, piece: str) -> AbstractContextManager[Hold]:
    return held(redis, f"piece:{uid}:{piece}", ttl_s=PIECE_TTL_S)
