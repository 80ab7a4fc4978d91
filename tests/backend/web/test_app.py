from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from flask.testing import FlaskClient
from redis import Redis
from werkzeug.test import TestResponse

from backend.project.credentials import BASIC_USER, SECRET_HEADER, load_credentials
from backend.project.folder import connect_folder
from backend.settings import Settings
from backend.web.app import create_app
from backend.web.protocol import PREDICTIONS_AT_ONCE
from backend.web.server import THREADS
from model.registry import VersionFields
from model.stored_weights import add_version
from tests.backend.configs import POLYGONS
from tests.e2e.waiting import wait_for

UID = "3.1700000000"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, redis_url="redis://127.0.0.1:9/0")


@pytest.fixture
def client(settings: Settings) -> FlaskClient:
    connect_folder(settings.data_dir, UID)
    return create_app(settings).test_client()


@pytest.fixture
def password(settings: Settings, client: FlaskClient) -> tuple[str, str]:
    return BASIC_USER, load_credentials(settings).basic_password


def test_health_is_open_and_everything_else_asks_for_the_password(client: FlaskClient, password) -> None:
    assert client.get("/health").json == {"status": "UP"}
    assert client.get("/p/3/health").status_code == 200
    for path in ("/p/3/setup", "/p/3/predict", "/p/3/webhook", "/p/3/job_status"):
        assert client.post(path, json={}).status_code == 401
        assert client.post(path, json={}, auth=(BASIC_USER, "wrong")).status_code == 401
    assert client.get("/p/3/versions").status_code == 401
    assert client.get("/p/3/versions", auth=password).json == {"versions": []}


def test_the_webhooks_secret_opens_the_webhook_alone(settings: Settings, client: FlaskClient) -> None:
    secret = {SECRET_HEADER: load_credentials(settings).webhook_secret}
    assert client.post("/p/3/webhook", json={"action": "LABEL_LINK_CREATED"}, headers=secret).status_code == 200
    assert client.post("/p/3/setup", json={"project": UID}, headers=secret).status_code == 401


def test_setup_names_the_served_version(settings: Settings, client: FlaskClient, password) -> None:
    def served() -> str:
        return str(client.post("/p/3/setup", json={"project": UID}, auth=password).json["model_version"])

    assert served() == "maskal-r0"
    registry = connect_folder(settings.data_dir, UID).registry
    fields = VersionFields(4, ("leaf",), "fake", {"network": "nano"}, {}, None, "x", True, "first version")
    add_version(registry, fields, {"colours": torch.zeros(1, 3)})
    registry.set_current("maskal-r4")
    assert served() == "maskal-r4"
    assert client.get("/p/3/versions", auth=password).json == {"versions": ["maskal-r4"]}


def test_before_the_first_version_each_task_gets_an_empty_answer(client: FlaskClient, password) -> None:
    tasks = [{"id": i, "data": {"photo": "x"}} for i in (5, 6, 7)]
    body = {"tasks": tasks, "project": UID, "label_config": POLYGONS, "params": {}}
    assert client.post("/p/3/predict", json=body, auth=password).json == {"results": [[], [], []]}


def test_health_and_setup_are_answered_while_more_predictions_wait_than_there_are_threads(
    client: FlaskClient, password, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    monkeypatch.setattr("backend.web.protocol.answer", lambda *call: [] if go_on.wait(60) else None)
    body = {"tasks": [{"id": 5, "data": {}}], "project": UID, "label_config": POLYGONS}
    with ThreadPoolExecutor(THREADS) as server:  # as gunicorn's has one

        def ask(path: str, body: object) -> Future[TestResponse]:
            return server.submit(client.application.test_client().post, path, json=body, auth=password)

        try:
            asked = [ask("/p/3/predict", body) for _ in range(THREADS)]
            assert ask("/p/3/setup", {"project": UID}).result(20).json == {"model_version": "maskal-r0"}
            assert server.submit(client.application.test_client().get, "/p/3/health").result(20).status_code == 200
            refused = THREADS - PREDICTIONS_AT_ONCE
            wait_for(lambda: sum(one.done() for one in asked) == refused, "the answers of those that found no room", 20)
        finally:
            go_on.set()
        answers = [one.result(20) for one in asked]
    assert Counter(one.status_code for one in answers) == {200: PREDICTIONS_AT_ONCE, 503: refused}
    assert "calls for predictions wait already" in next(a.json["error"] for a in answers if a.status_code == 503)


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/p/9/setup", {"project": "9.17"}, 404, "run `maskal connect --project 9`"),
        ("/p/3/setup", {"project": "3.18"}, 404, "3.18 is not connected"),
        ("/p/3/setup", {"project": "../../etc"}, 400, "should be <id>.<created>"),
        ("/p/3/predict", {"project": UID, "tasks": "all"}, 400, "should be a list of tasks, got a str"),
        ("/p/3/predict", {"project": UID, "tasks": [5]}, 400, "should be objects with a number as `id`"),
        ("/p/3/predict", {"project": UID, "tasks": [{"id": None}]}, 400, "should be objects with a number as `id`"),
        ("/p/3/predict", {"project": UID, "tasks": [{"id": 1, "data": "x"}]}, 400, "and an object as `data`"),
        ("/p/3/predict", {"project": UID, "tasks": [], "params": [1]}, 400, "`params` should be an object"),
        ("/p/3/predict", {"project": UID, "tasks": [], "label_config": 5}, 400, "`label_config` should be a text"),
        ("/p/3/webhook", [1], 400, "should carry a JSON object"),
        ("/p/3/webhook", {"action": "TASKS_CREATED"}, 503, "Redis does not answer"),
        ("/p/3/nothing", {}, 404, "not found"),
    ],
)
def test_a_bad_request_says_what_was_wanted(
    client: FlaskClient, password, path: str, body: object, status: int, message: str
) -> None:
    answer = client.post(path, json=body, auth=password)
    assert answer.status_code == status
    assert message.lower() in answer.json["error"].lower()


@pytest.mark.parametrize("header", ["Basic \xfc", "Basic w7w=", "Basic", "Bearer x", "\xe9\xe9"])
def test_a_login_that_cannot_be_read_is_a_strangers(client: FlaskClient, header: str) -> None:
    assert client.get("/p/3/versions", headers={"Authorization": header}).status_code == 401


def test_an_event_that_redis_does_not_take_is_told_as_what_it_is(
    tmp_path: Path, redis_url: str, full_redis: Redis
) -> None:
    settings = Settings(data_dir=tmp_path, redis_url=redis_url)
    connect_folder(tmp_path, UID)
    auth = (BASIC_USER, load_credentials(settings).basic_password)
    answer = create_app(settings).test_client().post("/p/3/webhook", json={"action": "ANNOTATION_CREATED"}, auth=auth)
    assert answer.status_code == 503
    assert answer.json == {"error": "Redis takes no data. Nothing is lost: annotations are read again later"}


def test_an_unexpected_error_shows_no_details(client: FlaskClient, password, settings: Settings) -> None:
    app = create_app(settings)
    app.add_url_rule("/boom", "boom", lambda: (settings.data_dir / "missing").read_text())
    answer = app.test_client().get("/boom", auth=password)
    assert answer.status_code == 500
    assert str(settings.data_dir) not in answer.text and "Traceback" not in answer.text


def test_the_requests_of_label_studio_mls_own_api_tests_are_answered(tmp_path: Path, redis_url: str) -> None:
    """Its tests/test_api.py, each at the project's address: a single task that is no list, and an empty config."""
    settings = Settings(data_dir=tmp_path, redis_url=redis_url)
    uid = connect_folder(tmp_path, "1.1000000000").uid
    client, auth = create_app(settings).test_client(), (BASIC_USER, load_credentials(settings).basic_password)
    config, project = "<View></View>", {"id": 1, "label_config": "<View></View>"}
    requests = {
        "predict": {"tasks": {"id": 1}, "label_config": config, "project": uid, "params": {"context": {}}},
        "setup": {"project": uid, "schema": config, "extra_params": {}},
        "webhook": {"action": "ANNOTATION_CREATED", "project": project},
    }
    answers = {path: client.post(f"/p/1/{path}", json=body, auth=auth) for path, body in requests.items()}
    assert [(path, a.status_code) for path, a in answers.items()] == [
        ("predict", 200),
        ("setup", 200),
        ("webhook", 201),
    ]
    assert answers["predict"].json == {"results": [[]]}
    assert client.get("/p/1/metrics", auth=auth).status_code == 200
    assert client.get("/p/1/health").json == {"model_class": "MaskAL", "status": "UP"}


@pytest.mark.parametrize(("file", "content"), [("current", "the newest"), ("rounds/4/state.json", '{"format": 99}')])
def test_a_project_that_cannot_be_read_keeps_no_other_from_being_served(
    settings: Settings, client: FlaskClient, password, file: str, content: str
) -> None:
    broken = connect_folder(settings.data_dir, "4.1700000000")
    fields = VersionFields(4, ("leaf",), "fake", {"network": "nano"}, {}, None, "x", True, "first version")
    add_version(broken.registry, fields, {"colours": torch.zeros(1, 3)})
    broken.registry.set_current("maskal-r4")
    (broken.rounds / "4").mkdir()
    (broken.path / file).write_text(content)
    answer = create_app(settings).test_client().post("/p/3/setup", json={"project": UID}, auth=password)
    assert answer.json == {"model_version": "maskal-r0"}
