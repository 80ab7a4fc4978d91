"""The list of images that could not be read, tried again with back-off."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from backend.errors import BadImage
from model.files import write_json
from model.stored_json import read_as

logger = logging.getLogger(__name__)

FIRST_RETRY_S = 60.0
LONGEST_RETRY_S = 24 * 3600.0


@dataclass(frozen=True)
class Failure:
    """Why a task's image could not be read, how often it was tried, and when it will be again (Unix time)."""

    error: str
    tries: int
    retry_at: float

    @property
    def is_waiting(self) -> bool:
        """Whether its next try is still to come; a time too far off is that of a clock that was set back since."""
        return time.time() < self.retry_at <= time.time() + LONGEST_RETRY_S


class Unreadable:
    """A project's `failed_images.json`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "failed_images.json"

    def failures(self) -> dict[int, Failure]:
        """All failures by task id."""
        return read_as(self.path, dict[int, Failure]) if self.path.exists() else {}

    def note(self, task_id: int, err: BadImage) -> None:
        """Remember that an image could not be read, and log it."""
        with self._alone():
            failures = self.failures()
            tries = failures[task_id].tries + 1 if task_id in failures else 1
            wait_s = min(FIRST_RETRY_S * 4 ** (tries - 1), LONGEST_RETRY_S)
            self._store({**failures, task_id: Failure(str(err), tries, time.time() + wait_s)})
        logger.warning("%s (tried %d times, again in %.0f s)", err, tries, wait_s)

    def clear(self, task_id: int) -> None:
        """Forget a failure, as the image was read."""
        if task_id not in self.failures():
            return
        with self._alone():
            self._store({task: failure for task, failure in self.failures().items() if task != task_id})

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """While the list is changed by nobody else: web app, workers and `maskal like` read images side by side."""
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            with suppress(OSError):  # a file system without locks: what is lost is noted again
                fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)  # which gives the lock back

    def _store(self, failures: dict[int, Failure]) -> None:
        write_json(self.path, {str(task): asdict(failure) for task, failure in failures.items()})
