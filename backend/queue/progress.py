"""How far a running job is, kept with the job."""

from __future__ import annotations

import logging
import time
from typing import Any

from redis.exceptions import RedisError
from rq import get_current_job

logger = logging.getLogger(__name__)


def report(step: str, share: float, **details: Any) -> None:
    """Keep a job's progress in its meta data, at most about once a second.

    share is what is done of the step, 0..1; the details may be anything that JSON takes.
    """
    keep_progress(step, share, details)


def keep_progress(step: str, share: float, details: dict[str, Any]) -> bool:
    """As `report`; whether it was time to, and Redis took it. Work goes on without a Redis that is away."""
    try:
        return _keep(step, share, details)
    except RedisError as err:
        logger.debug("the progress is not kept, Redis does not answer: %s", err)
        return False


def _keep(step: str, share: float, details: dict[str, Any]) -> bool:
    job = get_current_job()
    if job is None:
        return False
    now = time.time()
    if share in (0.0, 1.0) or abs(now - job.meta.get("at", 0)) > 1:  # abs: the clock may have been set back
        begun_at = job.meta["begun_at"] if job.meta.get("step") == step else now
        if share and "seconds_left" not in details:
            details["seconds_left"] = round(max(0.0, now - begun_at) * (1 - share) / share)
        progress = {"step": step, "percent": round(100 * share), **details}
        job.meta |= {"progress": progress, "at": now, "step": step, "begun_at": begun_at}
        job.save_meta()
        return True
    return False
