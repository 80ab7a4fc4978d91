from __future__ import annotations

import re
import time

import pytest
from flask import Flask
from flask.testing import FlaskClient
from redis import Redis

from backend.project.credentials import load_credentials
from backend.web.access import make_token
from tests.backend.shown_project import UID


def wait_for_outcome(app: Flask) -> str:
    actions = app.extensions["maskal_pages"].actions
    deadline = time.monotonic() + 10
    while (outcome := actions.outcome(UID)) is None or not outcome.is_done:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return str(outcome.told)


def test_the_button_asks_for_a_round(app: Flask, client: FlaskClient, shown, main, redis: Redis) -> None:
    page = client.get("/p/3/", auth=main).text
    (token,) = set(re.findall(r'name="token" value="([^"]+)"', page))
    answer = client.post("/p/3/round", data={"token": token}, auth=main)
    assert answer.status_code == 303 and answer.headers["Location"] == "./"
    assert "it begins within a minute" in wait_for_outcome(app)
    assert redis.exists(f"maskal:force:{UID}") and "A round was asked for" in client.get("/p/3/now", auth=main).text


def test_the_button_cancels_the_round(app: Flask, client: FlaskClient, shown, main, redis: Redis, settings) -> None:
    shown.begin_round()
    client.post("/p/3/cancel", data={"token": make_token(load_credentials(settings), UID)}, auth=main)
    assert "round 7 is being cancelled" in wait_for_outcome(app)
    assert redis.get(f"maskal:cancel:{UID}") == b"7"


def test_an_action_that_fails_says_why_on_the_page(app: Flask, client: FlaskClient, shown, main, settings) -> None:
    shown.begin_round()
    token = make_token(load_credentials(settings), UID)
    client.post("/p/3/rollback", data={"token": token, "to": "maskal-r4"}, auth=main)
    assert "is under way and would publish its own version" in wait_for_outcome(app)
    assert '<p class="notice bad">' in client.get("/p/3/now", auth=main).text


@pytest.mark.parametrize("action", ["round", "cancel", "rollback"])
def test_an_action_that_redis_does_not_take_is_told_as_what_it_is(
    app: Flask, client: FlaskClient, shown, main, settings, full_redis: Redis, action: str
) -> None:
    if action == "cancel":
        shown.begin_round()
    client.post(f"/p/3/{action}", data={"token": make_token(load_credentials(settings), UID)}, auth=main)
    assert "Redis takes no data (" in wait_for_outcome(app)


@pytest.mark.parametrize("action", ["round", "cancel", "rollback"])
def test_a_form_of_another_site_does_nothing(client: FlaskClient, shown, main, redis: Redis, settings, action) -> None:
    known = load_credentials(settings)
    good = make_token(known, UID)
    until, signature = good.split(".")
    old = make_token(known, UID, now=time.time() - 24 * 3600)
    forged = (
        f"{int(until) + 60}.{signature}",
        f"{until}.{'0' * 64}",
        f"{'9' * 30}.{signature}",
        "",
        "x",
        f"-1.{signature}",
    )
    for token in (old, make_token(known, "4.1"), *forged):
        assert client.post(f"/p/3/{action}", data={"token": token}, auth=main).status_code == 403
    for site in ("cross-site", "same-site", "none"):
        headers = {"Sec-Fetch-Site": site}
        assert client.post(f"/p/3/{action}", data={"token": good}, headers=headers, auth=main).status_code == 403
    assert client.get(f"/p/3/{action}", auth=main).status_code == 405
    assert not redis.keys("maskal:force:*") and not redis.keys("maskal:cancel:*")
