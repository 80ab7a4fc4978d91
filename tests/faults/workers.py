"""The workers of a test: jobs are done in the test's process, or in one that kills itself."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess

import psutil
import pytest
from redis import Redis
from rq import Queue, SimpleWorker

from backend.queue.claims import Claim
from backend.queue.jobs import ROUNDS, SHORT, count_workers, run_jobs
from backend.settings import Settings
from backend.workers import jobs
from backend.workers.clock import tick
from tests.e2e.waiting import wait_for

LATER_S = 1000.0
"""Longer than any wait between two tries; all such waits are over when a test lets so much time pass."""

LOOKS = 3
ROOM = 8_000_000
"""Bytes that a starved process may still take."""
CHILDREN = multiprocessing.get_context("forkserver")  # as RQ does: from a process that has torch, and never computed
CHILDREN.set_forkserver_preload([__name__, "backend.rounds.steps"])


@dataclass
class Clock:
    """`time.time` for this process, which a test moves."""

    moved_s: float = 0.0
    real: Callable[[], float] = time.time

    def __call__(self) -> float:
        return self.real() + self.moved_s


class Workers:
    """What `maskal worker` does on a machine with these settings, by a clock of its own."""

    def __init__(self, settings: Settings, monkeypatch: pytest.MonkeyPatch, moved_s: float = 0.0) -> None:
        self.settings, self.monkeypatch, self.clock = settings, monkeypatch, Clock(moved_s)
        self.claim = Claim(settings.data_dir)
        self.redis = Redis.from_url(settings.redis_url or "", socket_connect_timeout=1)
        monkeypatch.setattr(time, "time", self.clock)
        for name, value in {"DATA_DIR": settings.data_dir, "REDIS_URL": settings.redis_url}.items():
            monkeypatch.setenv(name, str(value))

    def at(self, step: str, action: Callable[[], object], share: float = 0.0) -> None:
        """Do something once, as soon as a step of a round has come so far."""
        keep, is_done = jobs.keep_progress, False

        def watched(name: str, done: float, details: dict[str, object]) -> bool:
            nonlocal is_done
            if name == step and done >= share and not is_done:
                is_done = True
                action()
            return keep(name, done, details)

        self.monkeypatch.setattr(jobs, "keep_progress", watched)

    def ticks(self) -> None:
        """The clock of a living worker ticks, and what is due waits."""
        if self.claim.renew(self.redis):
            tick(self.redis, self.settings)

    def turn(self) -> None:
        """The clock ticks, and the workers take what waits, in this process."""
        self.ticks()
        for queue in (SHORT, ROUNDS, SHORT):
            worker = SimpleWorker([Queue(queue, connection=self.redis)], connection=self.redis)
            worker.work(burst=True, logging_level="CRITICAL")

    def later(self) -> None:
        """Let time pass: whatever waits is due, whatever would have run out in Redis has."""
        self.clock.moved_s += LATER_S
        for name in self.redis.keys("maskal:*"):
            if self.redis.ttl(name) > 0:
                self.redis.delete(name)

    def looks(self, count: int = LOOKS) -> None:
        """So many turns, with time between them."""
        for _ in range(count):
            self.later()
            self.turn()

    def child(self, step: str | None = None, share: float = 0.0, *, is_starved: bool = False) -> BaseProcess:
        """A process that does this in our place; killed, or without more memory, once a step has come so far."""
        arguments = (self.settings, self.clock.moved_s, step, share, is_starved)
        return CHILDREN.Process(target=_work, args=arguments, daemon=True)

    @contextmanager
    def beside(self) -> Iterator[BaseProcess]:
        """A second worker that computes, RQ's with its own jobs' processes; it is there when the block begins."""
        before = count_workers(self.redis, ROUNDS)
        child = CHILDREN.Process(target=_serve, args=(self.settings, self.clock.moved_s), daemon=True)
        child.start()
        try:
            wait_for(lambda: count_workers(self.redis, ROUNDS) > before, "the worker beside", 60)
            yield child
        finally:
            kill(child)

    def another(self, uid: str) -> BaseProcess:
        """The process of a second worker, which was given both jobs of a project at the same time."""
        return CHILDREN.Process(target=_work_beside, args=(self.settings, self.clock.moved_s, uid), daemon=True)


def kill(child: BaseProcess) -> None:
    """End a process and its own at once; one that has been ended is left so."""
    if child.is_alive():
        for process in (*psutil.Process(child.pid).children(recursive=True), child):
            process.kill()
    child.join()


def _serve(settings: Settings, moved_s: float) -> None:
    run_jobs(Workers(settings, pytest.MonkeyPatch(), moved_s).redis, ROUNDS)


def _work_beside(settings: Settings, moved_s: float, uid: str) -> None:
    Workers(settings, pytest.MonkeyPatch(), moved_s)
    jobs.run_round(uid)
    jobs.examine(uid)


def _work(settings: Settings, moved_s: float, step: str | None, share: float, is_starved: bool) -> None:
    workers = Workers(settings, pytest.MonkeyPatch(), moved_s)
    if step is not None:
        workers.at(step, _starve if is_starved else _kill, share)
    workers.looks(1 if is_starved else LOOKS)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _starve() -> None:
    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
