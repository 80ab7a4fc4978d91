"""The backend behind label-studio-ml's own server, where that is installed, with the real Label Studio."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from redis import Redis

from backend.care.connect import Connection, connect
from backend.demo.data import true_regions
from backend.demo.stack import Stack, environment_of
from backend.label_studio.labels import parse_label_config
from backend.project.credentials import BASIC_USER, load_credentials
from backend.queue.marks import last_event
from backend.system.processes import Processes, free_port
from tests.e2e.waiting import concluded, wait_for

pytest.importorskip("label_studio_ml", reason="label-studio-ml is not installed")
pytestmark = pytest.mark.e2e

COMMAND = [sys.executable, "-c", "from label_studio_ml.server import main; main()"]


def test_its_server_hosts_predictor_and_rounds(stack: Stack, make_project, tmp_path: Path) -> None:
    project, folder, tasks = make_project("hosted", 8, 0, initial_datasize=5)
    client, redis = stack.client(), Redis.from_url(stack.settings.redis_url)
    password, port = load_credentials(stack.settings).basic_password, free_port()
    (tmp_path / "maskal.py").write_text("from backend.label_studio_ml import MaskAL\n")
    create = [*COMMAND, "create", "hosted", "--from", "maskal.py:MaskAL"]
    subprocess.run(create, cwd=tmp_path, check=True, capture_output=True)
    environment = environment_of(stack.settings)
    login = ["--basic-auth-user", BASIC_USER, "--basic-auth-pass", password]
    argv = [sys.executable, str(tmp_path / "hosted" / "_wsgi.py"), "--host", "127.0.0.1", "-p", str(port), *login]
    url = f"http://127.0.0.1:{port}"

    def is_up() -> bool:
        try:
            return httpx.get(url, auth=(BASIC_USER, password)).status_code == 200
        except httpx.TransportError:
            return False

    with Processes() as processes:
        processes.start("label-studio-ml", argv, env=environment, log=tmp_path / "log", ready=is_up)
        connect(stack.settings, Connection(project.id, backend_url=url, is_hosted=True))
        (row,) = client.backends(project.id)
        assert (row["url"], row["state"]) == (url, "CO")
        before = last_event(redis, folder.uid)
        labels = parse_label_config(project.label_config)
        for task in list(tasks)[:5]:
            client.annotate(task, true_regions(tasks[task], labels))
        wait_for(lambda: last_event(redis, folder.uid) != before, "an event, past the password")
        wait_for(lambda: concluded(folder, 1), "the first version")
        body = {"tasks": [{"id": t.id, "data": t.data} for t in client.tasks(project.id)], "project": folder.uid}
        body |= {"label_config": project.label_config, "params": {"context": {}}}
        answer = httpx.post(f"{url}/predict", json=body, auth=(BASIC_USER, password), timeout=60).json()
    assert [result["model_version"] for result in answer["results"]] == ["maskal-r1"] * 8
