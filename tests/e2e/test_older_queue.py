"""A Redis that an older release filled with its own jobs."""

from __future__ import annotations

import pytest
from redis import Redis
from rq import Queue

from backend.demo.stack import Stack
from backend.label_studio.client import Project
from backend.queue.jobs import EXAMINE, ROUNDS, RUN_ROUND, SHORT
from tests.e2e.waiting import concluded, wait_for

pytestmark = pytest.mark.e2e


def test_jobs_under_names_that_are_no_more_are_replaced_within_a_minute(stack: Stack, make_project) -> None:
    redis = Redis.from_url(stack.settings.redis_url)

    def fill(project: Project) -> None:
        for queue, kind in ((ROUNDS, RUN_ROUND), (SHORT, EXAMINE)):
            job_id, name = kind.id_for(project.uid), f"backend.jobs.{kind.function}"
            Queue(queue, connection=redis).enqueue_call(name, args=(project.uid,), job_id=job_id)

    _, folder, _ = make_project("an old queue", 12, 8, fill, initial_datasize=8)
    wait_for(lambda: concluded(folder, 1), "the first round, in spite of the old jobs", 60)
