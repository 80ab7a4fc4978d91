"""A project, its Label Studio, its Redis and its workers, all of them quick, and what has to hold after any fault."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from redis import Redis
from redis.exceptions import RedisError

from backend.care import status
from backend.project.config import ProjectConfig
from backend.project.credentials import store_label_studio
from backend.project.folder import connect_folder
from backend.queue.jobs import hint
from backend.rounds.folder import Round, all_rounds, unfinished
from backend.settings import Settings
from model.stored_weights import load_weights
from tests.faults.label_studio import UID, Server
from tests.faults.workers import Workers

TURNS = 12
TROUBLE = "  trouble: "
CONFIG = {
    "engine": "fake",
    "learning_rate": 0.05,
    "train_iterations_base": 20,
    "checkpoint_period": 5,
    "mcd_iterations": 3,
    "initial_datasize": 6,
    "pool_size": 4,
}


class World(Workers):
    """Eight annotated tasks of fourteen; nothing has been done about them yet."""

    def __init__(self, server: Server, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(settings, monkeypatch)
        self.server = server
        store_label_studio(settings, server.url, "the-key")
        self.folder = connect_folder(settings.data_dir, UID)
        self.folder.store_config(ProjectConfig.model_validate(CONFIG))

    # what goes wrong

    def killed(self, step: str, share: float = 0.0) -> None:
        """A worker goes on until it is killed, as soon as a step has come so far."""
        child = self.child(step, share)
        child.start()
        child.join(120)
        assert child.exitcode == -signal.SIGKILL, child.exitcode

    def killed_at_call(self, is_meant: Callable[[str, str, bool], bool]) -> None:
        """A worker goes on until it is killed, while Label Studio does a call or before it does."""
        child = self.child()

        def watch(method: str, path: str, is_done: bool) -> bool:
            if is_meant(method, path, is_done):
                child.kill()
                return True
            return False

        usual, self.server.watcher = self.server.watcher, watch
        child.start()
        child.join(120)
        self.server.watcher = usual
        assert child.exitcode == -signal.SIGKILL, child.exitcode

    # what is seen

    def status(self) -> list[str]:
        """Lines of `maskal status --project 1`."""
        redis: Redis | None = self.redis
        try:
            self.redis.ping()
        except RedisError:
            redis = None
        return list(status.describe(self.settings, redis, 1))

    def trouble(self) -> str:
        """The one line of status about what is wrong."""
        lines = self.status()
        found = [line for line in lines if line.startswith(TROUBLE)]
        assert len(found) == 1, "\n".join(lines)
        return found[0]

    def rounds(self) -> list[Round]:
        return all_rounds(self.folder)

    @property
    def followed(self) -> str:
        """The version that Label Studio's queue follows."""
        return self.server.project.model_version

    def annotate(self, *tasks: int) -> None:
        for task in tasks:
            self.server.project.annotate(task)

    # what has to hold

    def is_settled(self) -> bool:
        """Whether the last round has concluded and knows every annotation."""
        last = next(reversed(self.rounds()), None)
        snapshot = last.snapshot() if last is not None and last.is_concluded else None
        annotated = {task for task, rows in self.server.project.annotations.items() if rows}
        return snapshot is not None and {entry.task for entry in snapshot.entries} == annotated

    def assert_recovers(self) -> None:
        """Without anybody's help the round is finished and served; the next one learns from every annotation.

        The registry is whole, the queue complete, and no trouble is told any more.
        """
        for _ in range(TURNS):
            is_served = self.followed == self.folder.registry.current()
            if is_served and self.rounds() and unfinished(self.folder) is None:
                if self.is_settled():
                    break
                hint(self.redis, UID, is_forced=True)  # the next round, however few annotations are new
            self.looks(1)
        told = "\n".join(self.status())
        assert self.is_settled(), told
        self.looks(1)
        self.assert_whole()
        assert TROUBLE not in "\n".join(self.status())

    def assert_whole(self) -> None:
        """The registry loads; the version that the queue follows has exactly one prediction of every open task."""
        registry = self.folder.registry
        assert len(registry.versions()) == len(registry.names())
        for version in registry.versions():
            load_weights(registry, version.name)
        self.assert_queue_is_complete()

    def assert_queue_is_complete(self) -> None:
        project = self.server.project
        held = {
            task: sum(p["model_version"] == self.followed for p in project.stored[task])
            for task, rows in project.annotations.items()
            if not rows
        }
        assert not self.followed or set(held.values()) <= {1}, f"{self.followed}: {held}"
