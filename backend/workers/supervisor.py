"""`maskal worker`: the process that keeps the clock and starts a worker for each queue; it needs no torch."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading

from redis import Redis
from redis.exceptions import RedisError

from backend.queue.claims import Claim
from backend.queue.connection import open_redis
from backend.queue.jobs import ROUNDS, SHORT
from backend.settings import Settings, child_environment
from backend.system.processes import Processes
from backend.workers.clock import tick

logger = logging.getLogger(__name__)

TICK_S = 1.0


def work(settings: Settings) -> None:
    """Run both workers and the clock until stopped; ProcessFailed if a worker dies, QueueUnavailable without Redis."""
    redis = open_redis(settings)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    stop, claim = threading.Event(), Claim(settings.data_dir)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    with Processes() as processes:
        for queue in (ROUNDS, SHORT):
            argv = [sys.executable, "-m", "backend.cli", "worker", "--queue", queue]
            processes.start(f"{queue} worker", argv, env=child_environment(**_threads()), log=None)
        logger.info("working on the queues %s and %s", ROUNDS, SHORT)
        while not stop.wait(TICK_S):
            processes.check()
            _tick(redis, settings, claim)


def _tick(redis: Redis, settings: Settings, claim: Claim) -> None:
    try:
        if claim.renew(redis):
            tick(redis, settings)
        else:
            logger.error(
                "workers with another Redis look after DATA_DIR %s; give all the same REDIS_URL, or stop those",
                settings.data_dir,
            )
    except RedisError as err:
        logger.error("Redis does not answer (%s); the workers wait for it", err)


def _threads() -> dict[str, str]:
    """Leave a core to Label Studio and the web app where there are more than two, and wait all but without spinning.

    Threads that wait for each other by spinning starve the other processes, those that go to sleep at once lose
    a third of the speed; a short spin costs next to nothing of either.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {
        "OMP_NUM_THREADS": str(cores if cores <= 2 else cores - 1),
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "20000",
    }
