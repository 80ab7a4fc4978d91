"""Objects with holes and parts through the real Label Studio and a real browser, and back."""

from __future__ import annotations

import io
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from backend.demo.stack import Stack
from backend.label_studio.annotations import read_outlines
from backend.label_studio.images import Images
from backend.label_studio.labels import parse_label_config
from backend.label_studio.predictions import mask_to_regions
from model.geometry import box_of, polygons_to_mask
from tests.e2e.browser import label_all_tasks, logged_in, submit_button
from tests.e2e.waiting import wait_for

pytestmark = pytest.mark.e2e

SIZE = (300, 400)
CONFIG = """<View><Image name="image" value="$image" rotateControl="true"/>
<PolygonLabels name="shape" toName="image"><Label value="ring"/></PolygonLabels>
<BrushLabels name="brush" toName="image"><Label value="stain"/></BrushLabels>
<RectangleLabels name="box" toName="image"><Label value="pot"/></RectangleLabels></View>"""


def ring_and_island() -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    cv2.circle(mask, (100, 90), 70, 1, -1)
    cv2.circle(mask, (100, 90), 30, 0, -1)
    cv2.ellipse(mask, (250, 60), (45, 28), 30, 0, 360, 1, -1)
    return mask.astype(bool)


def stain_with_hole() -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    cv2.ellipse(mask, (120, 235), (80, 45), 0, 0, 360, 1, -1)
    cv2.circle(mask, (120, 235), 18, 0, -1)
    return mask.astype(bool)


def pot() -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[180:280, 260:370] = True
    return mask


OBJECTS = {"ring": ring_and_island(), "stain": stain_with_hole(), "pot": pot()}


def picture() -> bytes:
    image = np.full((*SIZE, 3), 240, np.uint8)
    for mask, colour in zip(OBJECTS.values(), ((60, 160, 60), (170, 110, 60), (70, 90, 190)), strict=True):
        image[mask] = colour
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def open_stream(page: Page, stack: Stack, project_id: int) -> None:
    page.goto(f"{stack.label_studio_url}/projects/{project_id}/data", wait_until="domcontentloaded")
    label_all_tasks(page).click()
    expect(submit_button(page)).to_be_enabled(timeout=60_000)


def to_screen(page: Page, turns: int, size_hw: tuple[int, int]) -> Callable[[float, float], tuple[float, float]]:
    """From pixels of the image to the screen, where it is shown turned to the right by so many quarters."""
    canvas = page.locator("canvas").first.bounding_box()
    assert canvas is not None
    height, width = size_hw if turns % 2 == 0 else size_hw[::-1]

    def convert(x: float, y: float) -> tuple[float, float]:
        h, w = size_hw
        for _ in range(turns):
            x, y, w, h = h - y, x, h, w
        return canvas["x"] + x / width * canvas["width"], canvas["y"] + y / height * canvas["height"]

    return convert


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=8)
    page.mouse.up()


def test_holes_and_parts_are_shown_corrected_and_read_as_one_object(stack: Stack, artefacts) -> None:
    client, labels = stack.client(), parse_label_config(CONFIG)
    project = client.create_project("all shapes", CONFIG)
    address = client.upload_image(project.id, "shapes.png", picture())
    tasks = client.import_tasks(project.id, [{"data": {"image": address}}] * 2)
    regions = [
        region
        for label, mask in OBJECTS.items()
        for region in mask_to_regions(mask, box_of(mask), label, labels, f"m-{label}")
    ]
    for region in regions:
        region["score"] = 0.9
    sent = [{"task": task, "score": 0.1, "model_version": "maskal-r1", "result": regions} for task in tasks]
    client.import_predictions(project.id, sent)
    client.update_project(project.id, model_version="maskal-r1", show_collab_predictions=True)

    with logged_in(stack) as page:
        open_stream(page, stack, project.id)
        expect(page.get_by_text("0.90", exact=True).first).to_be_visible(timeout=30_000)
        page.screenshot(path=artefacts / "parts_and_holes_prelabelled.png")
        submit_button(page).click()
        wait_for(lambda: len(list(client.annotated_tasks(project.id))) == 1, "the first annotation", 30)
        expect(submit_button(page)).to_be_enabled(timeout=30_000)
        page.wait_for_timeout(1500)  # the canvas of the next task draws itself without a sign that it is done
        at = to_screen(page, 0, SIZE)
        page.mouse.click(*at(250, 60))
        drag(page, at(250, 60), at(280, 75))  # the island of the ring, moved
        page.screenshot(path=artefacts / "parts_and_holes_corrected.png")
        submit_button(page).click()
        wait_for(lambda: len(list(client.annotated_tasks(project.id))) == 2, "the second annotation", 30)

    accepted, corrected = (task.annotations[0] for task in client.annotated_tasks(project.id))
    outlines, problems = read_outlines(accepted, labels, SIZE)
    assert problems == () and [outline.label for outline in outlines] == list(OBJECTS)
    for outline in outlines:
        assert iou(polygons_to_mask(outline.parts, SIZE), OBJECTS[outline.label]) >= 0.95
    moved, _ = read_outlines(corrected, labels, SIZE)
    assert [outline.label for outline in moved] == list(OBJECTS), "the moved part still belongs to its object"
    now = polygons_to_mask(moved[0].parts, SIZE)
    assert not now[50:70, 210:216].any() and now[75, 300], "and was read where it was put"


def turned_jpeg() -> bytes:
    """A photo that the camera stored lying on its side (EXIF orientation 6), with a red square on white."""
    image = Image.new("RGB", (400, 300), "white")
    image.paste((200, 20, 20), (40, 60, 120, 140))
    content = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(content, "JPEG", exif=exif, quality=95)
    return content.getvalue()


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_what_is_drawn_on_a_turned_image_is_read_where_it_was_seen(stack: Stack, artefacts, turns: int) -> None:
    client, labels = stack.client(), parse_label_config(CONFIG)
    project = client.create_project(f"turned {turns}", CONFIG)
    address = client.upload_image(project.id, "turned.jpg", turned_jpeg())
    (task,) = client.import_tasks(project.id, [{"data": {"image": address}}])
    image = Images(client, stack.settings).load(address, task)
    assert image.shape == (400, 300, 3), "upright, as the browser shows it"
    rows, columns = np.nonzero(image[..., 1] < 100)
    x0, y0, x1, y1 = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1

    with logged_in(stack) as page:
        open_stream(page, stack, project.id)
        page.wait_for_timeout(1000)
        for _ in range(turns):
            page.get_by_label("rotate-right").click()
            page.wait_for_timeout(500)
        at = to_screen(page, turns, (400, 300))
        page.keyboard.press("3")
        drag(page, at(x0, y0), at(x1, y1))
        page.wait_for_timeout(500)
        page.screenshot(path=artefacts / f"turned_{turns}.png")
        submit_button(page).click()
        (done,) = wait_for(lambda: list(client.annotated_tasks(project.id)), "the annotation", 30)

    (region,) = done.annotations[0]["result"]
    assert region["image_rotation"] == 90 * turns
    assert (region["original_width"], region["original_height"]) == (300, 400)
    (outline,), _ = read_outlines(done.annotations[0], labels, (400, 300))
    seen = polygons_to_mask(outline.parts, (400, 300))
    assert iou(seen, image[..., 1] < 100) > 0.9
