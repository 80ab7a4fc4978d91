from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from backend.demo.stack import Stack
from backend.label_studio.corrections import Corrections
from backend.rounds.receipt import Receipt
from tests.e2e.browser import label_all_tasks, logged_in, submit_button
from tests.e2e.waiting import concluded, wait_for

pytestmark = pytest.mark.e2e


def shown_task(page: Page) -> int:
    """The id of the task that the label stream shows, at the bottom left."""
    return int(page.locator(".lsf-current-task__task-id").inner_text(timeout=30_000).split()[0])


def test_the_annotator_sees_polygons_and_gets_the_least_certain_task_next(
    stack: Stack, make_project, artefacts
) -> None:
    project, folder, _ = make_project("in the browser", 10, 6, initial_datasize=6, pool_size=50)
    wait_for(lambda: concluded(folder, 1), "the first version")
    ranking = folder.registry.read_ranking("maskal-r1")
    with logged_in(stack) as page:
        page.goto(f"{stack.label_studio_url}/projects/{project.id}/data", wait_until="domcontentloaded")
        label_all_tasks(page).click()
        submit = submit_button(page)
        expect(submit).to_be_visible(timeout=60_000)
        assert shown_task(page) == ranking[0].task
        expect(page.locator("canvas").first).to_be_visible()
        scores = [f"{region['score']:.2f}" for region in ranking[0].regions]
        for shown in scores:
            expect(page.get_by_text(shown, exact=True).first).to_be_visible(timeout=30_000)
        page.screenshot(path=artefacts / "prelabelled.png")
        submit.click()
        wait_for(lambda: shown_task(page) != ranking[0].task, "the next task", 30)
        assert shown_task(page) == ranking[1].task
        page.screenshot(path=artefacts / "next_task.png")
    client = stack.client()
    (done,) = [task for task in client.annotated_tasks(project.id) if task.id == ranking[0].task]
    submitted = done.annotations[0]["result"]
    assert [region["id"] for region in submitted] == [region["id"] for region in ranking[0].regions]
    assert all(region["origin"] == "prediction" for region in submitted)
    line = wait_for(lambda: Receipt(folder.path).newest().get(done.annotations[0]["id"]), "its line in the receipt")
    assert (line.version, line.is_known) == ("maskal-r1", True) and line.lead_time_s and line.who
    assert line.corrections == Corrections(len(ranking[0].regions), 0, 0, 0, 0, 1.0), "submitted as it was proposed"


def test_a_tab_of_the_data_manager_shows_the_queue_and_links_to_it_label_in_its_order(
    stack: Stack, make_project, artefacts
) -> None:
    project, folder, _ = make_project("data manager", 10, 5, initial_datasize=5, pool_size=50)
    wait_for(lambda: concluded(folder, 1), "the first version")
    ranking = folder.registry.read_ranking("maskal-r1")
    data = f"{stack.label_studio_url}/projects/{project.id}/data"
    with logged_in(stack) as page:
        page.goto(data, wait_until="domcontentloaded")
        expect(page.get_by_text("Tasks: 10 / 10")).to_be_visible(timeout=60_000)
        assert f"tab={folder.tab()}" not in page.url, "Label Studio's own tab stays the first one"
        page.goto(f"{data}?tab={folder.tab()}", wait_until="domcontentloaded")
        expect(page.get_by_text("Tasks: 5 / 10")).to_be_visible(timeout=60_000)
        for row in ranking:
            expect(page.get_by_text(f"{row.score:.3f}").first).to_be_visible()
        expect(page.get_by_text("maskal-r1").first).to_be_visible()
        page.screenshot(path=artefacts / "data_manager.png")
        shown = page.inner_text("body")
        assert "Annotated by" not in shown and "imported" not in shown
        places = [shown.index(f"{row.score:.3f}") for row in ranking]
        assert places == sorted(places), "the least certain first"
        page.goto(f"{data}?tab={folder.tab()}&labeling=1", wait_until="domcontentloaded")
        expect(submit_button(page)).to_be_visible(timeout=60_000)
        assert shown_task(page) == ranking[0].task, "as in the queue, also where Label All Tasks was never pressed"
        page.screenshot(path=artefacts / "data_manager_stream.png")
