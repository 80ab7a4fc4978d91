"""Near copies on the real Label Studio: last in both queues, and without a say in the evaluation."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from redis import Redis

from backend.cli import main
from backend.demo.stack import Stack
from backend.queue.jobs import hint
from backend.rounds.first_queue import FIRST_VERSION, read_first_queue
from backend.rounds.near_copies import read_near_copies
from tests.e2e.waiting import concluded, wait_for
from tests.textures import shot_again, textured

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SCENES = 8


def as_png(photo: np.ndarray) -> bytes:
    return cv2.imencode(".png", photo[..., ::-1])[1].tobytes()


def add_photos(stack: Stack, project: int) -> list[int]:
    """Tasks of SCENES photos to learn from, of the first three once more, and of the first for validation."""
    photos = [textured(scene) for scene in range(SCENES)]
    photos += [shot_again(photos[scene], scene) for scene in (0, 1, 2)] + [shot_again(photos[0], 9)]
    client = stack.client()
    files = [(f"{i}.png", as_png(photo)) for i, photo in enumerate(photos)]
    splits = ["train"] * (SCENES + 3) + ["val"]
    addresses = client.upload_images(project, files)
    data = [{"image": address, "split": split} for address, split in zip(addresses, splits, strict=True)]
    return client.import_tasks(project, [{"data": one} for one in data])


def test_near_copies_come_last_before_and_after_the_first_version(stack: Stack, make_project) -> None:
    settings = {"first_images": "coverage", "near_copies": "last", "initial_datasize": 4}
    project, folder, _ = make_project("near copies", 1, 0, **settings)
    client, redis = stack.client(), Redis.from_url(stack.settings.redis_url)
    tasks = add_photos(stack, project.id)
    hint(redis, folder.uid)
    wait_for(lambda: read_near_copies(folder).tasks == len(tasks) + 1, "the comparison of all images")
    assert read_near_copies(folder).twins[tasks[0]] == {tasks[8], tasks[11]}
    wait_for(lambda: client.project(project.id).model_version == FIRST_VERSION, "the first queue")
    wait_for(lambda: read_first_queue(folder).keys() >= set(tasks), "the places of all tasks")
    copies = {row.task: row.copy_of for row in read_first_queue(folder).values() if row.copy_of is not None}
    assert len(copies) == 3 and {frozenset(pair) for pair in copies.items()} == {
        frozenset(pair) for pair in ((tasks[0], tasks[8]), (tasks[1], tasks[9]), (tasks[2], tasks[10]))
    }

    for task in (tasks[0], tasks[1], tasks[3], tasks[11]):
        client.annotate(task, [])
    hint(redis, folder.uid)
    wait_for(lambda: concluded(folder, 1), "the first version")
    version = folder.registry.get("maskal-r1")
    assert version.metrics["left_out"] == {str(tasks[11]): tasks[0]}
    rows = {row.task: row for row in folder.registry.read_ranking("maskal-r1")}
    moved = {task: row.copy_of for task, row in rows.items() if row.copy_of is not None}
    assert moved.pop(tasks[8]) == tasks[0] and moved.pop(tasks[9]) == tasks[1]
    assert set(moved) <= {tasks[2], tasks[10]} and len(moved) == 1
    others = [row.score for row in rows.values() if row.copy_of is None and row.split == "train"]
    assert max(others) < min(row.score for row in rows.values() if row.copy_of is not None)
    assert [p["score"] for p in client.predictions(tasks[8]) if p["model_version"] == "maskal-r1"] == [
        pytest.approx(rows[tasks[8]].score)
    ]

    environment = {"DATA_DIR": str(stack.settings.data_dir), "REDIS_URL": str(stack.settings.redis_url)}
    shown = CliRunner().invoke(main, ["status", "--project", str(project.id)], env=environment).output
    assert "3 open images come last as near copies" in shown
    assert f"evaluated without 1 validation image that is a near copy of training images: task {tasks[11]}" in shown

    late = client.upload_image(project.id, "late.png", as_png(shot_again(textured(3), 5)))
    (task,) = client.import_tasks(project.id, [{"data": {"image": late, "split": "train"}}])
    wait_for(lambda: folder.registry.ranked_task("maskal-r1", task), "the late task's place")
    row = folder.registry.ranked_task("maskal-r1", task)
    assert row is not None and (row.copy_of, row.score) == (tasks[3], 1.0)
