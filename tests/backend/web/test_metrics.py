from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from backend.project.credentials import BASIC_USER, load_credentials
from backend.queue.jobs import EXAMINE, RUN_ROUND, enqueue
from backend.rounds.folder import start_round
from backend.settings import Settings
from backend.web.app import create_app
from tests.backend.shown_project import ShownProject

PROMETHEUS = ("metrics", "scrape")


@pytest.fixture
def watched(redis: Redis, redis_url: str, tmp_path: Path) -> Settings:
    """Of a backend with one project, and with a password for Prometheus."""
    ShownProject(tmp_path).make_versions(tasks=40)
    return Settings(data_dir=tmp_path, redis_url=redis_url, metrics_password="scrape")


@pytest.fixture
def client(watched: Settings) -> FlaskClient:
    return create_app(watched).test_client()


def scraped(client: FlaskClient) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels."""
    answer = client.get("/metrics", auth=PROMETHEUS)
    assert answer.status_code == 200
    families = text_string_to_metric_families(answer.text)
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def test_prometheus_password_opens_the_metrics_alone(client: FlaskClient, watched: Settings) -> None:
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", auth=("metrics", "wrong")).status_code == 401
    assert client.get("/metrics", auth=PROMETHEUS).status_code == 200
    assert client.get("/metrics", auth=(BASIC_USER, load_credentials(watched).basic_password)).status_code == 200
    assert client.get("/p/3/versions", auth=PROMETHEUS).status_code == 401
    assert client.get("/p/3", auth=PROMETHEUS).status_code == 401


def test_without_a_password_for_it_nobody_is_prometheus(watched: Settings) -> None:
    client = create_app(replace(watched, metrics_password=None)).test_client()
    for password in ("", "scrape", "None"):
        assert client.get("/metrics", auth=("metrics", password)).status_code == 401


def test_disk_tells_how_a_project_does(client: FlaskClient, watched: Settings) -> None:
    found = scraped(client)
    assert found["maskal_mask_ap", "3"] == pytest.approx(0.55)
    assert found["maskal_rounds", "3", "published"] == 5 and found["maskal_rounds", "3", "refused"] == 1
    assert found["maskal_predictions_pushed", "3"] == found["maskal_images_scored", "3"] == 40
    assert not [sample for sample in found if any("maskal-r" in label for label in sample)], "a series per version"


def test_running_round_shows_its_steps_and_what_it_has_scored(client: FlaskClient, watched: Settings) -> None:
    folder = ShownProject(watched.data_dir).folder
    current = start_round(folder, 6)
    current.state.seconds["train"] = 12.5
    current.save()
    current.scores.write_text("{}\n{}\n{}\n")
    found = scraped(client)
    assert found["maskal_round_step_seconds", "3", "train"] == 12.5
    assert found["maskal_images_scored", "3"] == 3 and found["maskal_predictions_pushed", "3"] == 40


def test_jobs_that_wait_are_counted_by_queue(client: FlaskClient, redis: Redis) -> None:
    for kind in (EXAMINE, RUN_ROUND):
        enqueue(redis, kind, "3.1700000000")
    enqueue(redis, EXAMINE, "4.1700000000")
    found = scraped(client)
    assert found["maskal_redis_up",] == 1
    assert found["maskal_queue_jobs", "short", "waiting"] == 2
    assert found["maskal_queue_jobs", "rounds", "waiting"] == 1


def test_requests_are_counted_by_route_and_status_whatever_their_addresses(client: FlaskClient) -> None:
    for project in (3, 4, 5):
        client.get(f"/p/{project}/health")
    client.get("/no/such/page/1", auth=PROMETHEUS)
    client.post("/p/3/setup", json={})
    found = scraped(client)
    assert found["maskal_request_seconds_count", "/p/<int:project_id>/health", "200"] == 3
    assert found["maskal_request_seconds_count", "/p/<int:project_id>/setup", "401"] == 1
    assert found["maskal_request_seconds_count", "none", "401"] == 1


def test_errors_are_counted_by_kind(client: FlaskClient, watched: Settings) -> None:
    main = (BASIC_USER, load_credentials(watched).basic_password)
    assert client.post("/p/9/setup", json={"project": "9.17"}, auth=main).status_code == 404
    assert scraped(client)["maskal_request_failures_total", "NotFound"] == 1


def test_scrape_goes_on_without_redis_and_with_a_damaged_project(watched: Settings) -> None:
    broken = ShownProject(watched.data_dir).folder.path.with_name("8.1700000000")
    (broken / "rounds" / "1").mkdir(parents=True)
    (broken / "rounds" / "1" / "state.json").write_text("{")
    client = create_app(replace(watched, redis_url="redis://127.0.0.1:9/0")).test_client()
    found = scraped(client)
    assert found["maskal_redis_up",] == 0
    assert ("maskal_mask_ap", "3") in found and ("maskal_mask_ap", "8") not in found
