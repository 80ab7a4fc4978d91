"""The loop, a push, events and projects with Label Studio over PostgreSQL, as its own Docker files have it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.postgresql import postgresql, tasks_in

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(3600)]

ROOT = Path(__file__).resolve().parents[2]
FILES = ("test_loop", "test_push", "test_events", "test_projects")
OWN_DATABASE = "not fresh_database"
"""A test that starts a second Label Studio beside the first, which would be on the same database here."""


def test_the_loop_a_push_events_and_projects_work_over_postgresql() -> None:
    with postgresql() as variables:
        files = [f"tests/e2e/{name}.py" for name in FILES]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", OWN_DATABASE, *files]
        environment = {**os.environ, **variables}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        tasks = tasks_in(variables) if done.returncode == 0 else 0
    print(done.stdout[-8000:])
    assert done.returncode == 0 and tasks > 0
