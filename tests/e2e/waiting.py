"""Waiting for a condition instead of sleeping for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from redis import Redis

from backend.demo.stack import Stack
from backend.project.folder import ProjectFolder
from backend.project.workplace import open_workplace
from backend.queue.jobs import EXAMINE
from backend.queue.locks import held
from backend.rounds import task_queue
from backend.rounds.folder import Round, all_rounds
from backend.rounds.retired import LONGEST_STEP_S

T = TypeVar("T")


def wait_for(condition: Callable[[], T | None], what: str, timeout_s: float = 300.0) -> T:
    """The first true value of a condition; AssertionError after the time-out."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.2)
    raise AssertionError(f"waited {timeout_s:.0f} s in vain for {what}")


def concluded(folder: ProjectFolder, count: int) -> Round | None:
    """The newest concluded round once there are so many of them."""
    known = [r for r in all_rounds(folder) if r.is_concluded]
    return known[-1] if len(known) == count else None


LOCK_STEPS = 3


def remove_old_predictions(stack: Stack, folder: ProjectFolder, *, is_lock_over: bool) -> None:
    """Tidy in the worker's place: now, or with a clock that goes on until a task lock of some steps has run out."""
    place, now = open_workplace(stack.settings, folder), time.time()
    redis = Redis.from_url(stack.settings.redis_url)
    with held(redis, EXAMINE.lock_for(folder.uid), wait_s=60) as is_mine:
        assert is_mine, "the worker looks at the project for too long"
        project = place.client.project(folder.project_id)
        for step in range(1 + is_lock_over * LOCK_STEPS):
            at, lock_s = now + step * LONGEST_STEP_S, LOCK_STEPS * LONGEST_STEP_S
            assert not task_queue.remove_old_predictions(place, project, lock_s, now=at)
