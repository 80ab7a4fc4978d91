"""Which annotation of a task counts, and what happens when the labelling config changes, on the real server."""

from __future__ import annotations

import pytest
from redis import Redis

from backend.care import status
from backend.demo.data import true_regions
from backend.demo.stack import Stack
from backend.label_studio.labels import parse_label_config
from backend.project.workplace import open_workplace
from backend.rounds.reading import read_snapshot_of
from tests.e2e.configs import config
from tests.e2e.waiting import concluded, wait_for

pytestmark = pytest.mark.e2e

POLYGON = '<Polygon name="shape" toName="image"/>'


def test_the_annotation_that_counts_is_chosen_and_drafts_and_skips_never_are(stack: Stack, make_project) -> None:
    project, folder, tasks = make_project("which counts", 8, 0, initial_datasize=100)
    client, labels = stack.client(), parse_label_config(project.label_config)
    empty, skipped, draft, two, truth, copied, both, _ = ids = list(tasks)
    regions = {task: true_regions(tasks[task], labels) for task in ids}

    client.annotate(empty, [])
    client.request("POST", f"/api/tasks/{skipped}/annotations", json={"result": [], "was_cancelled": True})
    client.request("POST", f"/api/tasks/{draft}/drafts", json={"result": regions[draft], "lead_time": 1})
    client.annotate(two, [])
    newest = client.annotate(two, regions[two])
    blessed = client.annotate(truth, regions[truth])
    client.annotate(truth, [])
    client.request("PATCH", f"/api/annotations/{blessed}", json={"ground_truth": True})
    client.import_predictions(
        project.id, [{"task": copied, "score": 0.5, "model_version": "somebody", "result": regions[copied]}]
    )
    (prediction,) = client.predictions(copied)
    body = {"result": regions[copied], "parent_prediction": prediction["id"]}
    accepted = client.request("POST", f"/api/tasks/{copied}/annotations", json=body)["id"]
    kept = client.annotate(both, regions[both])
    client.request("POST", f"/api/tasks/{both}/annotations", json={"result": [], "was_cancelled": True})

    snapshot, chosen = read_snapshot_of(open_workplace(stack.settings, folder))
    assert [entry.task for entry in snapshot.entries] == [empty, two, truth, copied, both]
    counted = {task: chosen[task][1]["id"] for task in (two, truth, copied, both)}
    assert counted == {two: newest, truth: blessed, copied: accepted, both: kept}
    assert chosen[empty][1]["result"] == []


def test_empty_annotations_are_trained_on_as_images_without_objects(stack: Stack, make_project) -> None:
    project, folder, tasks = make_project("negatives", 5, 0, initial_datasize=5)
    client, labels = stack.client(), parse_label_config(project.label_config)
    for index, task in enumerate(tasks):
        client.annotate(task, [] if index < 2 else true_regions(tasks[task], labels))
    made = wait_for(lambda: concluded(folder, 1), "the first version")
    assert [len(row.regions) > 0 for row in made.annotated()] == [False, False, True, True, True]


def test_labels_that_come_and_go_are_followed_by_the_next_round_and_said(stack: Stack, make_project) -> None:
    project, folder, tasks = make_project("new labels", 8, 4, initial_datasize=4, pool_size=2)
    client = stack.client()
    wait_for(lambda: concluded(folder, 1), "the first version")
    annotated = {task.id: task.annotations[0] for task in client.annotated_tasks(project.id)}
    for annotation in annotated.values():  # Label Studio lets a label go once no annotation uses it
        for region in annotation["result"]:
            region["value"]["polygonlabels"] = [
                "tomato" if x == "plum" else x for x in region["value"]["polygonlabels"]
            ]
        client.request("PATCH", f"/api/annotations/{annotation['id']}", json={"result": annotation["result"]})
    wait_for(lambda: concluded(folder, 2), "the second version")
    changed = project.label_config.replace('value="plum"', 'value="pear"')
    client.update_project(project.id, label_config=changed)
    labels = parse_label_config(changed)
    open_tasks = [task.id for task in client.tasks(project.id) if not task.is_labeled]
    for task in open_tasks[:2]:
        regions = true_regions(tasks[task], parse_label_config(project.label_config))
        for region in regions:
            names = region["value"]["polygonlabels"]
            region["value"]["polygonlabels"] = ["pear" if name == "plum" else name for name in names]
        client.annotate(task, regions)
    third = wait_for(lambda: concluded(folder, 3), "the third version")
    assert third.labels().classes == labels.classes == ("tomato", "pear")
    assert folder.registry.get(third.version).classes == ("tomato", "pear")
    lines = "\n".join(status.describe(stack.settings, Redis.from_url(stack.settings.redis_url), project.id))
    assert "changed since maskal-r2: labels added: pear; gone: plum" in lines
    shown = {name for row in folder.registry.read_ranking(folder.registry.current())
             for region in row.regions for name in region["value"]["polygonlabels"]}  # fmt: skip
    assert shown <= {"tomato", "pear"}


@pytest.mark.parametrize(
    ("xml", "kinds"),
    [
        (config("BrushLabels mask"), {"brushlabels"}),
        (config("RectangleLabels box"), {"rectanglelabels"}),
        (config("BrushLabels mask", "PolygonLabels shape", "RectangleLabels box"), {"polygonlabels"}),
        (config("EllipseLabels round", "BitmaskLabels bits"), {"bitmasklabels"}),
        (
            config("Labels names").replace("</View>", '<Polygon name="shape" toName="image"/></View>'),
            {"polygon", "labels"},
        ),
    ],
    ids=["brush", "rectangles", "all three", "bitmasks", "labels beside polygons"],
)
def test_every_shape_is_learned_and_pre_labelled(stack: Stack, make_project, xml: str, kinds: set[str]) -> None:
    _, folder, _ = make_project("shapes", 8, 6, label_config=xml, initial_datasize=6)
    wait_for(lambda: concluded(folder, 1), "the first version")
    client = stack.client()
    version = folder.registry.get("maskal-r1")
    assert version.metrics["training"]["images"] > 0
    for row in folder.registry.read_ranking("maskal-r1"):
        (prediction,) = client.predictions(row.task)
        assert {region["type"] for region in prediction["result"]} <= kinds
    found = [region for row in folder.registry.read_ranking("maskal-r1") for region in row.regions]
    assert found, "the discs are found"
