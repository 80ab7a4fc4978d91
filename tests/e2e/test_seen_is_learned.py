"""What an annotator sees on the real Label Studio is what is read, of all shapes, and what cannot be read is said."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.sync_api import Page
from redis import Redis

from backend.care import status
from backend.care.case import WARNING
from backend.care.doctor import examine
from backend.demo.data import true_regions
from backend.demo.stack import Stack
from backend.label_studio.annotations import read_outlines
from backend.label_studio.client import Project
from backend.label_studio.labels import parse_label_config
from backend.label_studio.predictions import mask_to_regions
from backend.rounds.folder import all_rounds
from model.geometry import box_of, polygons_to_mask
from tests.e2e.browser import logged_in, submit_button
from tests.e2e.configs import config
from tests.e2e.test_shapes import SIZE, iou, open_stream, ring_and_island, stain_with_hole, to_screen
from tests.e2e.waiting import concluded, wait_for

pytestmark = pytest.mark.e2e

CONFIG = """<View><Image name="image" value="$image"/>
<PolygonLabels name="shape" toName="image">
<Label value="star" background="#cc2200"/><Label value="ring"/></PolygonLabels>
<BitmaskLabels name="bits" toName="image"><Label value="stain" background="#0044cc"/></BitmaskLabels>
<EllipseLabels name="round" toName="image"><Label value="egg"/></EllipseLabels>
<Choices name="ripe" toName="image" perRegion="true"><Choice value="ripe"/><Choice value="unripe"/></Choices></View>"""
STAR = [[75, 52], [83, 88], [62, 66], [88, 66], [67, 88]]
SOLID = [[[5, 76], [20, 76], [20, 96], [5, 96]], [[9, 81], [16, 81], [16, 91], [9, 91]]]
"""An outline and a hole in it that runs the same way, percent."""


def polygon(name: str, label: str, points: list[list[float]]) -> dict:
    value = {"points": points, "closed": True, "polygonlabels": [label]}
    size = {"original_width": SIZE[1], "original_height": SIZE[0], "image_rotation": 0}
    return {"id": name, "type": "polygonlabels", "from_name": "shape", "to_name": "image", **size, "value": value}


def colour_at(picture: Path, x: float, y: float) -> np.ndarray:
    image = cv2.imread(str(picture))
    return image[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2].reshape(-1, 3).mean(0)


def is_painted(page: Page, picture: Path, x: float, y: float) -> bool:
    """Whether a screenshot shows a region at a pixel of the image, which is light grey all over."""
    return bool(np.abs(colour_at(picture, *to_screen(page, 0, SIZE)(x, y)) - 240).max() > 20)


def test_bitmasks_ellipses_stars_and_what_is_said_of_a_region_are_read_as_seen(stack: Stack, artefacts: Path) -> None:
    client, labels = stack.client(), parse_label_config(CONFIG)
    project = client.create_project("seen is learned", CONFIG)
    content = cv2.imencode(".png", np.full((*SIZE, 3), 240, np.uint8))[1].tobytes()
    address = client.upload_image(project.id, "plain.png", content)
    (task,) = client.import_tasks(project.id, [{"data": {"image": address}}])
    stain, ring = stain_with_hole(), ring_and_island()
    ring[:, :200] = False  # two parts: the island, and a bit that stands apart
    ring[20:60, 330:380] = True
    outer, hole = SOLID
    egg = {"x": 30, "y": 20, "radiusX": 9, "radiusY": 6, "rotation": 30, "ellipselabels": ["egg"]}
    regions = [
        polygon("star", "star", STAR),
        polygon("solid", "star", [*outer, outer[0], *hole, hole[0]]),
        *mask_to_regions(stain, box_of(stain), "stain", labels, "stain"),
        *mask_to_regions(ring, box_of(ring), "ring", labels, "ring"),
        {**polygon("egg", "star", STAR), "type": "ellipselabels", "from_name": "round", "value": egg},
    ]
    sent = {"task": task, "score": 0.1, "model_version": "maskal-r1", "result": regions}
    client.import_predictions(project.id, [sent])
    client.update_project(project.id, model_version="maskal-r1", show_collab_predictions=True)

    with logged_in(stack) as page:
        open_stream(page, stack, project.id)
        page.wait_for_timeout(2000)  # the canvas draws itself without a sign that it is done
        page.screenshot(path=artefacts / "seen_is_learned.png")
        spots = {"star": (300, 225), "solid": (50, 258), "stain": (60, 235), "stain's hole": (120, 235)}
        seen = {name: is_painted(page, artefacts / "seen_is_learned.png", *at) for name, at in spots.items()}
        page.get_by_text("ring", exact=True).last.click()  # in the list of regions: the island, a part of the ring
        page.wait_for_timeout(500)
        page.screenshot(path=artefacts / "region_chosen.png")
        page.get_by_text("unripe").first.click(timeout=5000)
        page.screenshot(path=artefacts / "said_of_a_region.png")
        submit_button(page).click()
        (done,) = wait_for(lambda: list(client.annotated_tasks(project.id)), "the annotation", 30)

    annotation = done.annotations[0]
    assert "choices" in {result["type"] for result in annotation["result"]}
    outlines, left_out = read_outlines(annotation, labels, SIZE)
    masks = [(outline.label, polygons_to_mask(outline.parts, SIZE)) for outline in outlines]
    assert [label for label, _ in masks] == ["star", "star", "stain", "ring", "egg"] and not left_out
    learned = {name: any(mask[at[1], at[0]] for _, mask in masks) for name, at in spots.items()}
    assert learned == seen == {"star": True, "solid": True, "stain": True, "stain's hole": False}
    assert iou(masks[2][1], stain) > 0.99 and len(outlines[3].parts) == 2


def test_an_object_drawn_with_the_bitmask_tool_is_read_where_it_was_seen(stack: Stack, artefacts: Path) -> None:
    xml = config("BitmaskLabels bits")
    client, labels = stack.client(), parse_label_config(xml)
    project = client.create_project("bitmask by hand", xml)
    content = cv2.imencode(".png", np.full((*SIZE, 3), 240, np.uint8))[1].tobytes()
    address = client.upload_image(project.id, "plain.png", content)
    client.import_tasks(project.id, [{"data": {"image": address}}])
    with logged_in(stack) as page:
        open_stream(page, stack, project.id)
        page.wait_for_timeout(1000)
        at = to_screen(page, 0, SIZE)
        page.keyboard.press("1")
        page.mouse.move(*at(100, 150))
        page.mouse.down()
        page.mouse.move(*at(300, 150), steps=12)
        page.mouse.up()
        page.wait_for_timeout(500)
        page.screenshot(path=artefacts / "bitmask_by_hand.png")
        submit_button(page).click()
        (done,) = wait_for(lambda: list(client.annotated_tasks(project.id)), "the annotation", 30)
    (outline,), left_out = read_outlines(done.annotations[0], labels, SIZE)
    mask = polygons_to_mask(outline.parts, SIZE)
    x0, y0, x1, y1 = box_of(mask)
    assert not left_out and outline.label == "tomato"
    assert abs(x0 - 100) < 30 and abs(x1 - 300) < 30 and mask[150, 110:290].all() and y1 - y0 < 80


def test_an_annotation_that_cannot_be_read_whole_is_named_and_does_not_count(stack: Stack, make_project) -> None:
    project, folder, tasks = make_project("not all is read", 12, 0, initial_datasize=6)
    client, labels = stack.client(), parse_label_config(project.label_config)
    ids = list(tasks)
    for task in ids[:5]:
        client.annotate(task, true_regions(tasks[task], labels))
    elsewhere = [{**region, "from_name": "other"} for region in true_regions(tasks[ids[5]], labels)]
    client.annotate(ids[5], elsewhere)
    redis = Redis.from_url(stack.settings.redis_url)
    told = "\n".join(status.describe(stack.settings, redis, project.id))
    assert "needs 1 more annotation (5 of 6 annotated tasks; 1 annotated task does not count)" in told
    named = rf"task {ids[5]} does not count: region \S+ of annotation \d+ is left out: it is of the control 'other'"
    assert re.search(named, told)
    findings = {finding.check: finding for finding in examine(stack.settings, project.id)}
    assert findings["annotations"].state == WARNING and f"task {ids[5]}: region" in findings["annotations"].message
    client.annotate(ids[6], true_regions(tasks[ids[6]], labels))
    made = wait_for(lambda: concluded(folder, 1), "the first version")
    assert sorted(row.task for row in made.annotated()) == [*ids[:5], ids[6]]


@pytest.mark.slow
def test_a_round_whose_images_cannot_be_read_goes_on_once_they_can(stack: Stack, make_project) -> None:
    gone: dict[int, str] = {}

    def lose_images(project: Project) -> None:
        client = stack.client()
        for task in client.tasks(project.id):
            gone[task.id] = task.data["image"]
            client.request("PATCH", f"/api/tasks/{task.id}", json={"data": {"image": "/data/upload/0/gone.png"}})

    _, folder, _ = make_project("no image", 6, 5, lose_images, initial_datasize=5)
    waiting = wait_for(lambda: next((r for r in all_rounds(folder) if r.state.error), None), "the failed reading")
    assert "no annotated image outside of the validation split can be used: annotation" in waiting.state.error
    told = "\n".join(status.describe(stack.settings, Redis.from_url(stack.settings.redis_url), folder.project_id))
    assert "round 1 is started, last error: NothingToLearn: no annotated image" in told
    for task, image in gone.items():
        stack.client().request("PATCH", f"/api/tasks/{task}", json={"data": {"image": image}})
    assert wait_for(lambda: concluded(folder, 1), "the same round, once its images are there").state.number == 1
