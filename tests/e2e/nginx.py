"""A real nginx on loopback, as it stands before a Label Studio."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from backend.system.processes import Processes

PLACES = ("/usr/sbin", "/usr/local/sbin", f"{sys.prefix}/nginx/usr/sbin")
"""Where it is besides the PATH: Debian's place, and what `make nginx` unpacks."""

TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@contextmanager
def nginx(folder: Path, *servers: str) -> Iterator[None]:
    """An nginx with those servers, each the inside of a `server` block; skips where there is none."""
    executable = shutil.which("nginx", path=os.pathsep.join((os.environ.get("PATH", ""), *PLACES)))
    if executable is None:
        pytest.skip("nginx is not here: run `make nginx`, or install it")
    folder.mkdir(parents=True, exist_ok=True)
    places = "".join(f"{name}_temp_path {folder}/{name};" for name in TEMPORARY)
    alive = f"listen unix:{folder}/alive; return 200;"
    blocks = "".join(f"server {{ {server} }}" for server in (*servers, alive))
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log; events {{}}"
        f"http {{ access_log off; {places} {blocks} }}"
    )
    command = [executable, "-p", str(folder), "-c", str(config)]
    with Processes() as processes:
        processes.start("nginx", command, log=folder / "log", ready=lambda: answers(folder / "alive"))
        yield


def answers(socket: Path) -> bool:
    """Whether nginx answers at its socket, and so at the ports it opened with it."""
    try:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket))) as http:
            return http.get("http://nginx/").status_code == 200
    except httpx.TransportError:
        return False
