"""The queue before the first version: chosen by coverage, on the real Label Studio."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from redis import Redis

from backend.cli import main
from backend.demo.stack import Stack
from backend.queue.jobs import hint
from backend.rounds.first_queue import FIRST_VERSION, read_first_queue
from tests.e2e.test_open_tasks import open_task
from tests.e2e.waiting import concluded, remove_old_predictions, wait_for

pytestmark = pytest.mark.e2e


def test_the_first_images_are_chosen_and_their_order_goes_once_there_is_a_version(stack: Stack, make_project) -> None:
    project, folder, tasks = make_project("first images", 14, 1, first_images="coverage", initial_datasize=4)
    client, redis = stack.client(), Redis.from_url(stack.settings.redis_url)
    wait_for(lambda: client.project(project.id).model_version == FIRST_VERSION, "the first queue")

    queue = read_first_queue(folder)
    lowest = min((row for row in queue.values()), key=lambda row: row.score)
    served = client.next_task(project.id)
    assert served is not None and served.id == lowest.task, "the queue follows the order"
    (prediction,) = client.predictions(served.id)
    assert prediction["result"] == [] and prediction["score"] == pytest.approx(lowest.score)

    image = next(iter(tasks.values()))
    address = client.upload_image(project.id, "late.png", image.content)
    (late,) = client.import_tasks(project.id, [{"data": {"image": address, "split": "train"}}])
    row = wait_for(lambda: read_first_queue(folder).get(late), "the late task's place")
    assert [p["score"] for p in client.predictions(late)] == [pytest.approx(row.score)] and 0 < row.score < 1

    def tells_the_next_one() -> bool:
        environment = {"DATA_DIR": str(stack.settings.data_dir), "REDIS_URL": str(stack.settings.redis_url)}
        shown = CliRunner().invoke(main, ["status", "--project", str(project.id)], env=environment).output
        following = min(read_first_queue(folder).values(), key=lambda row: row.score).task
        return "the first images are chosen" in shown and f"task {following}: " in shown

    wait_for(tells_the_next_one, "the next image in `maskal status`")

    last = max(read_first_queue(folder).values(), key=lambda row: row.score)
    client.rescore(client.predictions(last.task)[0]["id"], 1e-6)
    slow = open_task(stack, project.id)
    assert slow.version == FIRST_VERSION and slow.task == last.task, "a place that is changed by one call"
    for _ in range(3):
        task = client.next_task(project.id)
        assert task is not None
        client.annotate(task.id, [])
    hint(redis, folder.uid)
    wait_for(lambda: concluded(folder, 1), "the first version")
    assert client.project(project.id).model_version == "maskal-r1"
    remove_old_predictions(stack, folder, is_lock_over=False)
    assert slow.submit()[0] == 201, "what was open in the moment of the change is submitted"
    assert FIRST_VERSION in client.model_versions(project.id)
    remove_old_predictions(stack, folder, is_lock_over=True)
    assert FIRST_VERSION not in client.model_versions(project.id)
    assert [version.name for version in folder.registry.versions()] == ["maskal-r1"], "nothing to go back to"
