from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx

from backend.system.processes import free_port
from tests.e2e.waiting import wait_for

PROGRAM = """
import os
import sys
from pathlib import Path
from flask import Flask
from backend.settings import Settings
from backend.web import server

def create_app(settings, start_anew):
    app = Flask(__name__)
    app.add_url_rule("/pid", "pid", lambda: str(os.getpid()))
    app.add_url_rule("/fail", "fail", lambda: start_anew() or str(os.getpid()))
    return app

server.create_app = create_app
server.Server(Settings(data_dir=Path(sys.argv[1]), port=int(sys.argv[2]))).run()
"""


def answer(port: int, path: str) -> str | None:
    """What the server answers; None while it does not."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/{path}").text
    except httpx.TransportError:
        return None


def test_gunicorn_replaces_a_process_that_asks_for_it_once_it_has_answered(tmp_path: Path) -> None:
    port = free_port()
    argv = [sys.executable, "-c", PROGRAM, str(tmp_path), str(port)]
    with subprocess.Popen(argv, env=os.environ | {"PYTHONPATH": os.getcwd()}) as server:
        try:
            wait_for(lambda: answer(port, "pid"), "the server", 60)
            first = answer(port, "fail")
            assert first is not None
            wait_for(lambda: answer(port, "pid") not in (None, first), "another process", 60)
        finally:
            server.terminate()
