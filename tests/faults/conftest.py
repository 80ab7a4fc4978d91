from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis

from backend.settings import Settings
from backend.system.processes import Processes
from backend.system.redis_server import start_redis
from tests.backend.fake_label_studio import FakeLabelStudio
from tests.faults.label_studio import UID, Server
from tests.faults.world import World


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis."""
    folder = tmp_path_factory.mktemp("redis")
    with Processes() as processes:
        yield start_redis(processes, folder, folder / "log")


@contextmanager
def made_world(redis_url: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A project whose first round is due."""
    for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    Redis.from_url(redis_url).flushall()
    server = Server(FakeLabelStudio(UID, tasks=14, annotated=8))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield World(server, Settings(data_dir=data_dir, redis_url=redis_url), monkeypatch)
    server.closed.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def world(shared_redis: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A project whose first round is due."""
    with made_world(shared_redis, tmp_path / "data", monkeypatch) as made:
        yield made
