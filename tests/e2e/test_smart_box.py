"""Smart boxes and clicks in the real Label Studio: through its route, and drawn in a browser."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from playwright.sync_api import expect

from backend.demo.stack import Stack
from backend.label_studio.annotations import read_outlines
from backend.label_studio.labels import parse_label_config
from model.geometry import box_of, polygons_to_mask
from tests.e2e.browser import accept_suggestions, logged_in, submit_button
from tests.e2e.configs import config
from tests.e2e.test_browser import shown_task
from tests.e2e.test_shapes import drag, iou, open_stream, to_screen
from tests.e2e.waiting import concluded, wait_for

pytestmark = pytest.mark.e2e

SIZE = (240, 320)
MARGIN = np.array([-4, -4, 4, 4])
POLYGONS = config("PolygonLabels shape", "RectangleLabels box smart='true'")
SMART = config("PolygonLabels shape", "RectangleLabels box smart='true'", "KeyPointLabels point smartOnly='true'")
BRUSH = config("BrushLabels mask", "RectangleLabels box smart='true'")


def box_around(mask: np.ndarray, label: str) -> dict:
    """What Label Studio sends for a box drawn a little around an object."""
    x0, y0, x1, y1 = box_of(mask) + MARGIN
    height, width = mask.shape
    value = {"x": 100 * x0 / width, "y": 100 * y0 / height, "rotation": 0, "rectanglelabels": [label]}
    value |= {"width": 100 * (x1 - x0) / width, "height": 100 * (y1 - y0) / height}
    return {"id": "b", "from_name": "box", "to_name": "image", "type": "rectanglelabels", "value": value}


@pytest.mark.parametrize(
    ("xml", "kind"), [(POLYGONS, "polygonlabels"), (BRUSH, "brushlabels")], ids=["polygon", "brush"]
)
def test_a_box_becomes_the_outline_of_the_object_in_it(stack: Stack, make_project, xml: str, kind: str) -> None:
    project, folder, tasks = make_project("smart", 8, 6, label_config=xml, initial_datasize=6)
    client, labels = stack.client(), parse_label_config(xml)
    (row,) = client.backends(project.id)
    task, image = list(tasks.items())[-1]

    def ask(*regions: dict) -> list[dict]:
        body = {"task": task, "context": {"result": list(regions)}}
        answer = client.request("POST", f"/api/ml/{row['id']}/interactive-annotating", json=body)
        return answer["data"]["result"]

    outline = image.truth.outlines[0]
    truth = polygons_to_mask(outline.parts, SIZE)
    wait_for(lambda: concluded(folder, 1), "the first version")
    regions = ask(box_around(truth, outline.label))
    assert {region["type"] for region in regions} == {kind}
    (found,), _ = read_outlines({"id": 1, "result": regions}, labels, SIZE)
    assert found.label == outline.label
    assert iou(polygons_to_mask(found.parts, SIZE), truth) > 0.75, "as fine as the fake engine's grid of 64 pixels"


def click_on(mask: np.ndarray, label: str, *, is_positive: bool = True) -> dict:
    """What Label Studio sends for a click in the middle of an object with the smart point."""
    x0, y0, x1, y1 = box_of(mask)
    height, width = mask.shape
    value = {"x": 50 * (x0 + x1) / width, "y": 50 * (y0 + y1) / height, "width": 0.3}
    value |= {"keypointlabels": [label], "labels": [label]}
    region = {"id": "k", "from_name": "point", "to_name": "image", "type": "keypointlabels", "value": value}
    return {**region, "is_positive": is_positive}


@pytest.mark.parametrize("ask_with", [box_around, click_on], ids=["box", "click"])
@pytest.mark.parametrize("annotated", [0, 6], ids=["before version 1", "version 1"])
def test_a_box_and_a_click_are_answered_from_the_first_minute(
    stack: Stack, make_project, ask_with: Callable[..., dict], annotated: int
) -> None:
    project, folder, tasks = make_project("first minute", 8, annotated, label_config=SMART, initial_datasize=6)
    client, labels = stack.client(), parse_label_config(SMART)
    (row,) = client.backends(project.id)
    if annotated:
        wait_for(lambda: concluded(folder, 1), "the first version")
    task, image = list(tasks.items())[-1]
    seconds = []
    for outline in image.truth.outlines:
        truth = polygons_to_mask(outline.parts, SIZE)
        body = {"task": task, "context": {"result": [ask_with(truth, outline.label)]}}
        started = time.monotonic()
        answer = client.request("POST", f"/api/ml/{row['id']}/interactive-annotating", json=body)["data"]
        seconds.append(time.monotonic() - started)
        assert answer["model_version"] == ("maskal-r1" if annotated else "maskal-r0")
        assert {region["type"] for region in answer["result"]} == {"polygonlabels"}
        assert not any("score" in region for region in answer["result"])
        (found,), _ = read_outlines({"id": 1, "result": answer["result"]}, labels, SIZE)
        assert found.label == outline.label
        assert iou(polygons_to_mask(found.parts, SIZE), truth) > 0.75
    print("seconds through Label Studio:", [round(s, 2) for s in seconds])
    blank = {"task": task, "context": {"result": [click_on(np.eye(*SIZE, dtype=bool), "tomato", is_positive=False)]}}
    assert client.request("POST", f"/api/ml/{row['id']}/interactive-annotating", json=blank)["data"]["result"] == []


def test_a_click_in_the_browser_is_replaced_by_the_outline_and_leaves_no_point(
    stack: Stack, make_project, artefacts
) -> None:
    project, _, tasks = make_project("clicked", 4, 0, label_config=SMART)
    client, labels = stack.client(), parse_label_config(SMART)
    with logged_in(stack) as page:
        open_stream(page, stack, project.id)
        page.wait_for_timeout(1500)  # the canvas draws itself without a sign that it is done
        task = shown_task(page)
        outline = tasks[task].truth.outlines[0]
        truth = polygons_to_mask(outline.parts, SIZE)
        page.get_by_text("Auto-Annotation").click()
        page.locator(".lsf-tool_smart >> visible=true").last.click()
        page.get_by_label("key-point-tool").last.click()
        page.keyboard.press("5" if outline.label == "tomato" else "6")
        x0, y0, x1, y1 = box_of(truth)
        page.mouse.click(*to_screen(page, 0, SIZE)((x0 + x1) / 2, (y0 + y1) / 2))
        expect(page.get_by_text("1 suggestions")).to_be_visible(timeout=20_000)
        page.screenshot(path=artefacts / "smart_click.png")
        accept_suggestions(page).click()
        page.wait_for_timeout(500)
        page.screenshot(path=artefacts / "smart_click_accepted.png")
        submit_button(page).click()
        wait_for(lambda: task in {t.id for t in client.annotated_tasks(project.id)}, "the annotation", 30)
    (done,) = [t for t in client.annotated_tasks(project.id) if t.id == task]
    result = done.annotations[0]["result"]
    assert {region["type"] for region in result} == {"polygonlabels"}, "the point itself is gone"
    (found,), problems = read_outlines(done.annotations[0], labels, SIZE)
    assert problems == () and found.label == outline.label
    assert iou(polygons_to_mask(found.parts, SIZE), truth) > 0.75


def test_a_box_drawn_in_the_browser_is_replaced_by_the_outline(stack: Stack, make_project, artefacts) -> None:
    project, folder, tasks = make_project("drawn", 8, 6, label_config=POLYGONS, initial_datasize=6)
    client, labels = stack.client(), parse_label_config(POLYGONS)
    wait_for(lambda: concluded(folder, 1), "the first version")
    with logged_in(stack) as page:
        open_stream(page, stack, project.id)
        page.wait_for_timeout(1500)  # the canvas draws itself without a sign that it is done
        task = shown_task(page)
        outline = tasks[task].truth.outlines[0]
        truth = polygons_to_mask(outline.parts, SIZE)
        page.get_by_text("Auto-Annotation").click()
        page.locator(".lsf-tool_smart >> visible=true").last.click()
        page.keyboard.press("3" if outline.label == "tomato" else "4")
        x0, y0, x1, y1 = box_of(truth) + MARGIN
        at = to_screen(page, 0, SIZE)
        drag(page, at(x0, y0), at(x1, y1))
        expect(page.get_by_text("1 suggestions")).to_be_visible(timeout=20_000)
        page.screenshot(path=artefacts / "smart_box.png")
        accept_suggestions(page).click()
        page.wait_for_timeout(500)
        page.screenshot(path=artefacts / "smart_box_accepted.png")
        submit_button(page).click()
        wait_for(lambda: task in {t.id for t in client.annotated_tasks(project.id)}, "the annotation", 30)
    (done,) = [t for t in client.annotated_tasks(project.id) if t.id == task]
    result = done.annotations[0]["result"]
    assert {region["type"] for region in result} == {"polygonlabels"}, "the box itself is gone"
    by_hand = [region for region in result if region["origin"] == "manual"]
    (found,), _ = read_outlines({"id": 1, "result": by_hand}, labels, SIZE)
    assert iou(polygons_to_mask(found.parts, SIZE), truth) > 0.75
