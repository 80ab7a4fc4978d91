"""The page of a project that the real Label Studio, worker and backend work on."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import expect
from redis import Redis

from backend.care.connect import Connection, connect
from backend.care.disconnect import disconnect
from backend.demo.stack import Stack
from backend.label_studio.client import Project
from backend.project.credentials import BASIC_USER, load_credentials
from backend.rounds.history import read_history
from backend.rounds.standing import read_standing
from tests.e2e.browser import open_browser
from tests.e2e.waiting import concluded, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SHOWN = "[...document.images].every(image => image.complete && image.naturalWidth > 0)"
OWN = '<p>Outline each disc.</p>\n<p>See <a href="https://example.org/discs?a=1&amp;b=2">here</a>.</p>'


def test_a_project_is_followed_rolled_back_and_trained_from_its_page(
    stack: Stack, make_project, artefacts: Path
) -> None:
    project, folder, _ = make_project("on its page", 40, 28, initial_datasize=20, pool_size=50)
    wait_for(lambda: concluded(folder, 1), "the first version")
    seen = wait_for(lambda: (s := read_standing(folder)) and s.version and s.missing is not None and s, "a look")
    assert seen.title == "on its page" and seen.tasks == 40 and seen.label_studio == stack.label_studio_url
    url = f"http://127.0.0.1:{stack.settings.port}"
    login = {"username": BASIC_USER, "password": load_credentials(stack.settings).basic_password}
    with open_browser() as browser:
        page = browser.new_page(http_credentials=login, viewport={"width": 1280, "height": 900})
        page.goto(f"{url}/")
        page.get_by_role("heading", name="on its page").click()
        expect(page.get_by_role("heading", name="maskal-r1 is served")).to_be_visible()
        task = re.search(r"task=(\d+)", page.get_by_role("link", name=re.compile("^Task ")).first.get_attribute("href"))
        assert task and int(task[1]) == folder.registry.read_ranking("maskal-r1")[0].task
        page.evaluate("document.querySelectorAll('img').forEach(image => { image.loading = 'eager'; })")
        wait_for(lambda: page.evaluate(SHOWN), "the pictures", 30)
        assert page.locator(".outline.proposed").count() > 0
        expect(page.get_by_role("table", name=re.compile("Which class is found as which"))).to_be_visible()
        page.get_by_text("Start a round …").click()
        page.get_by_role("button", name="Start a round").click()
        wait_for(lambda: concluded(folder, 2), "the second round")
        expect(page.get_by_text(re.compile("maskal-r2 was (accepted|refused)"))).to_be_visible(timeout=60_000)
        assert folder.registry.current() == "maskal-r2", "the same annotations again are not significantly worse"
        page.get_by_text("Roll back …").click(timeout=60_000)
        page.get_by_role("button", name="Roll back").click()
        expect(page.get_by_role("heading", name="maskal-r1 is served")).to_be_visible(timeout=120_000)
        page.screenshot(path=artefacts / "page.png", full_page=True)
    assert stack.client().project(project.id).model_version == "maskal-r1"
    assert read_history(folder).rolled_back == {"maskal-r2"}


def test_the_link_to_the_page_comes_and_goes_and_leaves_the_instruction_as_it_was(stack: Stack, make_project) -> None:
    client = stack.client()

    def instruct(made: Project) -> None:
        client.update_project(made.id, expert_instruction=OWN)

    project, folder, _ = make_project("linked", 2, 0, before_connecting=instruct)
    own = client.project(project.id).instruction
    assert own == OWN, "PUBLIC_URL is not set"
    for address in ("https://host/maskal", "http://other:9090", "http://other:9090"):
        settings = replace(stack.settings, public_url=address)
        connect(settings, Connection(project.id, stack.label_studio_url, stack.login.token))
        linked = client.project(project.id).instruction
        assert linked.startswith(own) and linked.count("<a href") == 2
        assert f'<a href="{address}/p/{project.id}/">' in linked
    settings = replace(stack.settings, public_url="http://other:9090")
    told = disconnect(settings, Redis.from_url(stack.settings.redis_url), folder)
    assert "link to the page" in told and client.project(project.id).instruction == own
