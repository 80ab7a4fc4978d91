"""A PostgreSQL server for Label Studio: the one that the environment names, or Debian's, started for the tests."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from backend.system.processes import Processes, free_port

BINARIES = Path("/usr/lib/postgresql")
SERVICE_USER = "postgres"
"""Who runs the server where we are root, which `initdb` and `postgres` refuse to be."""


@contextmanager
def postgresql() -> Iterator[dict[str, str]]:
    """Label Studio's variables for an empty database; skips where no server can be had."""
    if os.environ.get("POSTGRE_HOST"):
        named = {name: value for name, value in os.environ.items() if name.startswith("POSTGRE_")}
        yield {"DJANGO_DB": "default", **named}
        return
    newest = max(BINARIES.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]), default=None)
    if newest is None:
        pytest.skip(
            "no PostgreSQL: install Debian's postgresql, or name an empty database by POSTGRE_HOST and the rest"
        )
    folder, port = Path(tempfile.mkdtemp(prefix="maskal-postgresql-")), str(free_port())
    try:
        user = SERVICE_USER if os.geteuid() == 0 else getpass.getuser()
        if os.geteuid() == 0:
            shutil.chown(folder, user)
        data, log = folder / "data", Path(tempfile.gettempdir()) / f"{folder.name}.log"
        made = subprocess.run(_as(user, [newest, "-D", data, "-U", "labelstudio", "-A", "trust"]), capture_output=True)
        assert made.returncode == 0, made.stderr.decode()
        options = ["-D", data, "-p", port, "-k", folder, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        is_up = [str(newest.with_name("pg_isready")), "-h", "127.0.0.1", "-p", port]
        with Processes() as processes:
            processes.start(
                "PostgreSQL",
                _as(user, [newest.with_name("postgres"), *options]),
                log=log,
                ready=lambda: subprocess.run(is_up, capture_output=True).returncode == 0,
            )
            yield {
                "DJANGO_DB": "default",
                "POSTGRE_HOST": "127.0.0.1",
                "POSTGRE_PORT": port,
                "POSTGRE_USER": "labelstudio",
                "POSTGRE_PASSWORD": "",
                "POSTGRE_NAME": "postgres",
            }
        log.unlink()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _as(user: str, command: Sequence[str | Path]) -> list[str]:
    """The command, run by that user."""
    prefix = ["runuser", "-u", user, "--"] if os.geteuid() == 0 else []
    return [*prefix, *map(str, command)]


def tasks_in(variables: Mapping[str, str]) -> int:
    """Number of tasks that Label Studio has in that database."""
    place = ["-h", variables["POSTGRE_HOST"], "-p", variables.get("POSTGRE_PORT", "5432")]
    database = ["-U", variables["POSTGRE_USER"], "-d", variables["POSTGRE_NAME"]]
    command = ["psql", *place, *database, "-tAc", "select count(*) from task"]
    secret = {"PGPASSWORD": variables.get("POSTGRE_PASSWORD", "")}
    return int(subprocess.run(command, env={**os.environ, **secret}, capture_output=True, check=True).stdout)
