"""What a page does not wait for: actions that somebody asked for, and the doctor's look."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from redis.exceptions import RedisError

from backend.care.case import FAILED, Finding
from backend.care.doctor import examine
from backend.errors import BackendError
from backend.settings import Settings
from model.errors import ModelError

logger = logging.getLogger(__name__)

LOOK_S = 60.0
"""At most so often a project's links are examined, and only while somebody looks at its page."""

TOO_MUCH = ("webhook delivery", "annotations", "image")
"""Checks that make Label Studio send an event, or read all annotations: not for each look at a page."""

KEPT_S = 300.0
"""For how long a page tells what came of an action."""

UNEXPECTED = "an unexpected error; the server's log has the details"


@dataclass(frozen=True)
class Outcome:
    """What came of an action: `is_done` False while it is at it, `is_well` whether it did what was asked."""

    told: str
    is_done: bool
    is_well: bool


class Actions:
    """One action at a time for each project, in a thread; the last outcome is told until the next one, or for KEPT_S.

    `clock` tells seconds, from whenever it likes.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._outcomes: dict[str, Outcome] = {}
        self._ended: dict[str, float] = {}
        self._lock = threading.Lock()

    def outcome(self, uid: str) -> Outcome | None:
        """What came of the last action; None before any, and when it is old."""
        outcome = self._outcomes.get(uid)
        is_old = outcome is not None and outcome.is_done and self._clock() > self._ended[uid] + KEPT_S
        return None if is_old else outcome

    def start(self, uid: str, what: str, action: Callable[[], str]) -> bool:
        """Begin an action, which returns what was done; False while another one is at it."""
        with self._lock:
            now = self._outcomes.get(uid)
            if now is not None and not now.is_done:
                return False
            self._outcomes[uid] = Outcome(what, is_done=False, is_well=True)
        threading.Thread(target=self._run, args=(uid, action), name=f"action on {uid}", daemon=True).start()
        return True

    def _run(self, uid: str, action: Callable[[], str]) -> None:
        outcome = Outcome(UNEXPECTED, is_done=True, is_well=False)
        try:
            outcome = Outcome(action(), is_done=True, is_well=True)
        except (BackendError, ModelError) as err:
            outcome = Outcome(str(err), is_done=True, is_well=False)
        except RedisError as err:
            logger.error("Redis does not answer: %s", err)
            outcome = Outcome("Redis does not answer; start it or set REDIS_URL", is_done=True, is_well=False)
        finally:
            self._ended[uid] = self._clock()
            self._outcomes[uid] = outcome


class Checkups:
    """The doctor's failing links of each project, looked at in the background."""

    def __init__(self, settings: Settings, look: Callable[[Settings, int], list[Finding]] | None = None) -> None:
        self.settings = settings
        self._look = look or failing_links
        self._found: dict[int, list[Finding]] = {}
        self._due: dict[int, float] = {}
        self._lock = threading.Lock()

    def failing(self, project_id: int) -> list[Finding] | None:
        """What the last look found, None before the first; begins another one where that is due."""
        with self._lock:
            is_due = time.monotonic() >= self._due.get(project_id, float("-inf"))
            if is_due:
                self._due[project_id] = time.monotonic() + LOOK_S
        if is_due:
            threading.Thread(target=self._run, args=(project_id,), name=f"look at {project_id}", daemon=True).start()
        return self._found.get(project_id)

    def _run(self, project_id: int) -> None:
        self._found[project_id] = self._look(self.settings, project_id)


def failing_links(settings: Settings, project_id: int) -> list[Finding]:
    """The links that fail, each with its mend."""
    return [finding for finding in examine(settings, project_id, without=TOO_MUCH) if finding.state == FAILED]
