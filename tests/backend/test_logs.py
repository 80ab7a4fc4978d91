from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.demo.stack import environment_of, is_up
from backend.errors import BadSetting
from backend.logs import about, set_up_logging
from backend.project.credentials import BASIC_USER, load_credentials
from backend.settings import Settings, read_log_format
from backend.system.processes import Processes, free_port

logger = logging.getLogger("a.part")


@pytest.fixture
def as_json() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Log as JSON; what is called returns the lines so far."""
    root, stream = logging.getLogger(), io.StringIO()
    before, level = list(root.handlers), root.level
    root.handlers.clear()  # pytest's own are not to be closed
    set_up_logging("json", logging.INFO)
    for handler in root.handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:] = before
    root.setLevel(level)


def test_each_line_is_one_object_with_the_ids_of_what_it_is_about(as_json) -> None:
    with about(project=3, job="run_round-3"):
        with about(round=7):
            logger.warning("%d images", 4)
        logger.info("done")
    logger.info("nothing")
    first, second, third = as_json()
    assert first["message"] == "4 images" and first["level"] == "WARNING" and first["logger"] == "a.part"
    assert (first["project"], first["job"], first["round"]) == (3, "run_round-3", 7)
    assert second["project"] == 3 and "round" not in second
    assert "project" not in third and "T" in third["time"]


def test_traceback_stays_in_its_line(as_json) -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logger.exception("it failed")
    (line,) = as_json()
    assert "ValueError: two\nlines" in line["traceback"]


def test_message_cannot_write_to_the_terminal_or_pass_for_another_one() -> None:
    told = "task 7: \x1b]0;gone\x07\x9b2J\u202e\r\n12:00:00 ERROR backend: all is lost\tÄ"
    script = f"import logging; from backend.logs import *; set_up_logging('text', 20); logging.info({told!r})"
    argv = [sys.executable, "-c", script]
    lines = subprocess.run(argv, capture_output=True, check=True).stderr.decode().splitlines()
    assert lines[0].endswith(r"task 7: \x1b]0;gone\x07\x9b2J\u202e\r")
    assert lines[1:] == ["    12:00:00 ERROR backend: all is lost\tÄ"]


def test_format_that_does_not_exist_is_refused_by_name() -> None:
    assert read_log_format({}) == "text" and read_log_format({"LOG_FORMAT": " json "}) == "json"
    with pytest.raises(BadSetting, match="LOG_FORMAT must be text or json, got 'xml'"):
        read_log_format({"LOG_FORMAT": "xml"})


def test_web_process_tells_the_project_of_a_request(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, redis_url="redis://127.0.0.1:9/0", port=free_port())
    url, log = f"http://127.0.0.1:{settings.port}", tmp_path / "log"
    environment = {**environment_of(replace(settings, backend_url=url)), "LOG_FORMAT": "json"}
    with Processes() as processes:
        argv = [sys.executable, "-m", "backend.cli", "serve"]
        processes.start("backend", argv, env=environment, log=log, ready=lambda: is_up(f"{url}/health"), timeout_s=120)
        password = load_credentials(settings).basic_password
        assert httpx.post(f"{url}/p/12/setup", json={}, auth=(BASIC_USER, password)).status_code == 404
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    (refused,) = [line for line in lines if "not connected" in line["message"]]
    assert refused["project"] == 12


def test_command_says_what_is_wrong_with_the_format(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "backend.cli", "status"]
    environment = {**environment_of(Settings(data_dir=tmp_path)), "LOG_FORMAT": "xml"}
    told = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert told.returncode == 1 and told.stderr.startswith("maskal: environment variable LOG_FORMAT must be")
