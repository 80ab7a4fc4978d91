from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
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


def wait_with_it(connection: socket.socket, stopped: threading.Event) -> None:
    """Leave a request without the rest of its answer."""
    stopped.wait(60)


@pytest.fixture
def at_work(redis: Redis, settings: Settings, answering: Callable[..., str]) -> subprocess.Popen[bytes]:
    """A `maskal worker` in the middle of a look at a project whose Label Studio does not go on."""
    url = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", wait_with_it)
    slow = replace(settings, label_studio_url=url, label_studio_api_key="key")
    worker = subprocess.Popen([sys.executable, "-m", "backend.cli", "worker"], env=environment_of(slow))
    wait_for(lambda: is_held(redis, f"examine:{UID}"), "the look", 60)
    return worker


def test_worker_stops_within_compose_grace_and_hands_its_job_back(
    redis: Redis, at_work: subprocess.Popen[bytes]
) -> None:
    started = time.monotonic()
    at_work.send_signal(signal.SIGTERM)
    assert at_work.wait(GRACE_S) == 0
    assert time.monotonic() - started < GRACE_S / 2
    assert not is_held(redis, f"examine:{UID}"), "the next worker would wait until the lock runs out"
    assert describe(redis, EXAMINE.id_for(UID))["job_status"] == "failed"
    assert enqueue(redis, EXAMINE, UID), "the next worker takes the job up"
