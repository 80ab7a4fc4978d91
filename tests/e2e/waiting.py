"""Waiting for a condition instead of sleeping for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from backend.project.folder import ProjectFolder
from backend.rounds.folder import Round, all_rounds

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
