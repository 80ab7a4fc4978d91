"""One RQ worker; started by the supervisor."""

from __future__ import annotations

import os

from backend.queue.connection import open_redis
from backend.queue.jobs import run_jobs
from backend.settings import Settings
from backend.workers import jobs as jobs  # once, before each job is forked; what computes is imported in the fork

NICENESS = 10


def work_on(settings: Settings, queue: str) -> None:
    """Take the jobs of a queue until stopped; torch and CUDA are first touched in the forked job."""
    redis = open_redis(settings)
    os.nice(NICENESS)
    run_jobs(redis, queue)
