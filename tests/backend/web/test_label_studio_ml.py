"""Behind label-studio-ml's own server, where that is installed (version 2; it is not on the package index)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from flask.testing import FlaskClient
from redis import Redis

from backend.project.folder import ProjectFolder, connect_folder
from backend.queue.marks import DIRTY
from model.registry import VersionFields
from model.stored_weights import add_version
from tests.backend.configs import POLYGONS

api = pytest.importorskip("label_studio_ml.api", reason="label-studio-ml is not installed")
hosted = pytest.importorskip("backend.web.label_studio_ml")

UID = "3.1700000000"


@pytest.fixture
def folder(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProjectFolder]:
    for name, value in {
        "DATA_DIR": str(tmp_path),
        "REDIS_URL": redis_url,
        "LABEL_STUDIO_URL": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "key")
    Redis.from_url(redis_url).flushall()
    hosted._host.cache_clear()
    yield connect_folder(tmp_path, UID)
    hosted._host.cache_clear()


@pytest.fixture
def client(folder: ProjectFolder) -> FlaskClient:
    return api.init_app(hosted.MaskAL).test_client()


def serve(folder: ProjectFolder) -> None:
    fields = VersionFields(4, ("leaf",), "fake", {"network": "nano"}, {}, None, "x", True, "first version")
    add_version(folder.registry, fields, {"colours": torch.zeros(1, 3)})
    folder.registry.write_ranking("maskal-r4", [])
    folder.registry.set_current("maskal-r4")


def test_setup_names_the_served_version(folder: ProjectFolder, client: FlaskClient) -> None:
    body = {"project": UID, "schema": POLYGONS, "extra_params": {}}
    assert client.post("/setup", json=body).json == {"model_version": "maskal-r0"}
    serve(folder)
    assert client.post("/setup", json=body).json == {"model_version": "maskal-r4"}


def test_n_tasks_give_n_results(folder: ProjectFolder, client: FlaskClient) -> None:
    tasks = [{"id": number, "data": {"photo": "http://127.0.0.1:9/none.png"}} for number in (5, 6)]
    body = {"tasks": tasks, "project": UID, "label_config": POLYGONS, "params": {"login": None, "context": {}}}
    assert client.post("/predict", json=body).json == {"results": [[], []]}, "no version yet"
    serve(folder)
    assert client.post("/predict", json=body).json == {"results": [[], []]}, "images that cannot be read"


def test_events_become_jobs_of_the_worker(folder: ProjectFolder, client: FlaskClient, redis_url: str) -> None:
    project = {"id": 3, "label_config": POLYGONS}
    answer = client.post("/webhook", json={"action": "START_TRAINING", "project": project})
    assert (answer.status_code, answer.json["result"]["job"]) == (201, "run_round-3-1700000000")
    redis = Redis.from_url(redis_url)
    assert redis.zscore(DIRTY, UID) is not None and redis.get(f"maskal:force:{UID}") == b"1"


def test_a_project_that_is_not_connected_is_named(client: FlaskClient) -> None:
    answer = client.post("/setup", json={"project": "9.1", "schema": POLYGONS})
    assert answer.status_code == 500 and "run `maskal connect --project 9`" in answer.json["detail"]


def test_the_packages_own_requests_are_answered(client: FlaskClient, tmp_path: Path) -> None:
    connect_folder(tmp_path, "1.1000000000")
    config = "<View></View>"
    predict = {"tasks": {"id": 1}, "label_config": config, "project": "1.1000000000", "params": {"context": {}}}
    assert client.get("/health").json == {"model_class": "MaskAL", "status": "UP"}
    assert client.post("/predict", json=predict).json == {"results": [[]]}
    assert client.post("/setup", json={"project": "1.1", "schema": config, "extra_params": {}}).status_code == 200
    event = {"action": "ANNOTATION_CREATED", "project": {"id": 1, "label_config": config}}
    assert client.post("/webhook", json=event).status_code == 201
