from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from redis import Redis

from backend.demo.stack import environment_of
from backend.queue.jobs import EXAMINE, describe, enqueue
from backend.queue.locks import is_held
from backend.settings import Settings
from tests.backend.conftest import UID
from tests.e2e.waiting import wait_for

COMPOSE = yaml.safe_load((Path(__file__).resolve().parents[3] / "docker" / "compose.yaml").read_text())
GRACE_S = float(COMPOSE["services"]["worker"]["stop_grace_period"].rstrip("s"))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """What the worker logs."""
    return tmp_path / "worker.log"


@pytest.fixture
def at_work(
    redis: Redis, settings: Settings, answering: Callable[..., str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A `maskal worker` in the middle of a look at a project whose Label Studio does not go on."""
    asked = threading.Event()

    def leave_without_the_rest(connection: socket.socket, stopped: threading.Event) -> None:
        asked.set()
        stopped.wait(60)

    url = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", leave_without_the_rest)
    slow = replace(settings, label_studio_url=url, label_studio_api_key="key")
    argv = [sys.executable, "-m", "backend.cli", "worker"]
    with log.open("wb") as told:
        worker = subprocess.Popen(argv, env=environment_of(slow), stderr=told)
    try:
        wait_for(asked.is_set, "the look's first request", 60)
        assert is_held(redis, f"examine:{UID}")
        yield worker
    finally:
        worker.terminate()
        worker.wait(60)


def test_worker_stops_within_compose_grace_and_hands_its_job_back(
    redis: Redis, at_work: subprocess.Popen[bytes], log: Path
) -> None:
    at_work.send_signal(signal.SIGTERM)
    assert at_work.wait(GRACE_S) == 0
    assert not is_held(redis, f"examine:{UID}"), "the next worker would wait until the lock runs out"
    assert describe(redis, EXAMINE.id_for(UID))["job_status"] == "failed"
    assert enqueue(redis, EXAMINE, UID), "the next worker takes the job up"
    told = log.read_text()
    assert told.count(f"{EXAMINE.id_for(UID)} is handed back, as the worker stops") == 1, told
    assert "Traceback" not in told and "ERROR" not in told, told
