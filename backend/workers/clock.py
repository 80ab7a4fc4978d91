"""When each job is due."""

from __future__ import annotations

import time

from redis import Redis

from backend.project.credentials import fingerprint
from backend.project.folder import connected_projects
from backend.queue.jobs import EXAMINE, TIDY, enqueue
from backend.queue.marks import changed_before, forget_change, note_worker
from backend.settings import Settings

DEBOUNCE_S = 5.0
RECONCILE_S = 45
TIDY_S = 3600

RECONCILED = "maskal:reconciled"
TIDIED = "maskal:tidied"
EVERYWHERE = "all"


def tick(redis: Redis, settings: Settings) -> None:
    """Enqueue what is due; called about once a second by every `maskal worker`. A flushed Redis loses nothing."""
    note_worker(redis, fingerprint(settings), settings.label_studio_url)
    if redis.set(RECONCILED, 1, nx=True, ex=RECONCILE_S):
        for folder in connected_projects(settings.data_dir):
            enqueue(redis, EXAMINE, folder.uid)
    if redis.set(TIDIED, 1, nx=True, ex=TIDY_S):
        enqueue(redis, TIDY, EVERYWHERE)
    for uid in changed_before(redis, time.time() - DEBOUNCE_S):
        if enqueue(redis, EXAMINE, uid, at_front=True):
            forget_change(redis, uid)
