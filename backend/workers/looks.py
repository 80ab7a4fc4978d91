"""Whether a look at a project may rest: by one call to Label Studio, by the disk and by Redis nothing has happened."""

from __future__ import annotations

import hashlib
import json
import time

from redis import Redis

from backend.label_studio.client import Project
from backend.project.folder import ProjectFolder
from backend.project.unreadable import Unreadable
from backend.queue import marks
from backend.rounds.folder import all_rounds
from backend.rounds.retired import Retired
from backend.rounds.standing import has_standing

LONGEST_REST_S = 240
"""So long after a close look the next one is close whatever the counts say: an edit whose event was lost moves none."""


class Look:
    """One look at a project, that begins now: whether it may rest, and what is kept for the next one where it did not.

    What is kept is lost with Redis, and nothing else: the next look is then a close one.
    """

    def __init__(self, redis: Redis, folder: ProjectFolder, project: Project) -> None:
        self.redis, self.folder, self.project = redis, folder, project
        self._facts = _facts_of(redis, folder, project)
        self._found = _fingerprint(self._facts, project.model_version, marks.changes(redis, folder.uid))

    def may_rest(self, lock_s: float) -> bool:
        """Whether all is as the last close look found it, and no old prediction is due to be removed.

        Those are due `lock_s` seconds after their version was retired, which are counted here as well.
        """
        if self.redis.get(self._key) != self._found or not has_standing(self.folder):
            return False
        retired_s = Retired(self.folder.path).go_on(time.time())
        return all(seconds < lock_s for seconds in retired_s.values())

    def note_close(self) -> None:
        """Let the next looks rest for as long as all stays as this one, a close one, found it."""
        self.redis.set(self._key, self._found, ex=LONGEST_REST_S)

    def seen(self, newest_change: str) -> bytes:
        """What stays the same as long as no annotation has to be read; of Label Studio's newest change, too."""
        return _fingerprint(self._facts, newest_change)

    @property
    def _key(self) -> str:
        return marks.key("rest", self.folder.uid)


def _facts_of(redis: Redis, folder: ProjectFolder, project: Project) -> tuple[object, ...]:
    """What the project as Label Studio describes it, the disk and a wish tell of what there is to do."""
    return (
        project.counters,
        project.label_config,
        folder.config().model_dump(mode="json"),
        [r.state.state for r in all_rounds(folder)],
        folder.registry.current(),
        marks.is_forced(redis, folder.uid),
        sum(not failure.is_waiting for failure in Unreadable(folder.path).failures().values()),
    )


def _fingerprint(*facts: object) -> bytes:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest().encode()
