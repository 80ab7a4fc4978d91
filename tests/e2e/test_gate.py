from __future__ import annotations

import copy

import pytest
from redis import Redis

from backend.care import status
from backend.demo.data import true_regions
from backend.demo.stack import Stack
from backend.label_studio.client import Project
from backend.label_studio.labels import parse_label_config
from backend.project.workplace import open_workplace
from backend.rounds.need import need_of
from tests.e2e.conftest import discs
from tests.e2e.waiting import concluded, wait_for

pytestmark = pytest.mark.e2e

VALIDATION, TRAINING = 12, 12
SWAPPED = {"tomato": "plum", "plum": "tomato"}


def test_a_round_of_poisoned_labels_is_refused_and_does_not_start_itself_again(stack: Stack, make_project) -> None:
    client = stack.client()
    trained_on: list[int] = []

    def fill(project: Project) -> None:
        labels = parse_label_config(project.label_config)
        for index, image in enumerate(discs(VALIDATION + TRAINING, seed=11).images):
            data = {
                "image": client.upload_image(project.id, image.name, image.content),
                "split": "val" if index < VALIDATION else "train",
            }
            task = {"data": data, "annotations": [{"result": true_regions(image, labels)}]}
            (task_id,) = client.import_tasks(project.id, [task])
            if index >= VALIDATION:
                trained_on.append(task_id)

    project, folder, _ = make_project(
        "poisoned", 1, 0, fill, initial_datasize=VALIDATION + TRAINING, pool_size=TRAINING, warm_start=False
    )

    wait_for(lambda: concluded(folder, 1), "the first version")
    assert folder.registry.get("maskal-r1").metrics["mask_ap"] > 0.5
    for task in client.annotated_tasks(project.id):
        if task.id in trained_on:
            poisoned = copy.deepcopy(task.annotations[0]["result"])
            for region in poisoned:
                region["value"]["polygonlabels"] = [SWAPPED[name] for name in region["value"]["polygonlabels"]]
            client.request("PATCH", f"/api/annotations/{task.annotations[0]['id']}", json={"result": poisoned})

    second = wait_for(lambda: concluded(folder, 2), "the second round")

    assert second.state.state == "refused"
    assert "significantly worse on 12 validation images: mask AP -" in str(second.state.reason)
    refused = folder.registry.get("maskal-r2")
    assert not refused.promoted and refused.metrics["comparisons"][0]["upper"] < 0
    assert folder.registry.current() == client.project(project.id).model_version == "maskal-r1"
    redis = Redis.from_url(stack.settings.redis_url)
    assert any("maskal-r2" in line and "refused" in line for line in status.describe(stack.settings, redis))
    place = open_workplace(stack.settings, folder)
    need = need_of(place, client.project(project.id), in_full=True)
    assert (need.is_due, need.missing) == (False, TRAINING), need.reason
