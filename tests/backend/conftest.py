from __future__ import annotations

from collections.abc import Iterator

import pytest

from backend.processes import Processes
from backend.redis_server import start_redis


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis."""
    folder = tmp_path_factory.mktemp("redis")
    with Processes() as processes:
        yield start_redis(processes, folder, folder / "log")
