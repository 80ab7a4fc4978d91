"""Publishing a queue to the real Label Studio: calls that are cut off, old versions, and looks that find nothing."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from redis import Redis

from backend.demo.stack import Stack
from backend.errors import LabelStudioBusy
from backend.label_studio import pushing
from backend.label_studio.client import LabelStudio
from backend.label_studio.pushing import Pusher
from backend.rounds import task_queue
from backend.rounds.folder import all_rounds
from backend.workers.jobs import examine_project
from model.rankings import RankedTask
from tests.benchmarks.push import counted
from tests.e2e.conftest import discs
from tests.e2e.waiting import remove_old_predictions, wait_for

pytestmark = pytest.mark.e2e

TASKS = 600
VERSION = "maskal-r1"


@pytest.fixture
def pool(stack: Stack) -> tuple[int, list[RankedTask]]:
    """A project with many tasks of one picture, and their queue."""
    data, client = discs(1), stack.client()
    project = client.create_project("pool", data.label_config)
    address = client.upload_image(project.id, "a.png", data.images[0].content)
    ids = client.import_tasks(project.id, [{"data": {"image": address}}] * TASKS)
    return project.id, [RankedTask(task, 0.5, i, i / TASKS, "train", []) for i, task in enumerate(ids)]


def assert_one_each(client: LabelStudio, project_id: int, rows: list[RankedTask]) -> None:
    assert client.model_versions(project_id) == {VERSION: TASKS}
    assert client.tasks_with_version(project_id, VERSION) == {row.task for row in rows}


def push_slowly(url: str, token: str, project_id: int, rows: list[RankedTask], journal: Path) -> None:
    pushing.PUSH_ROWS = 20
    Pusher(LabelStudio(url, token), project_id, VERSION, journal).push(rows)


@pytest.mark.parametrize("held_at_least", [1, 200])
def test_a_killed_push_goes_on_without_duplicates(stack: Stack, pool, tmp_path, held_at_least: int) -> None:
    project_id, rows = pool
    journal = tmp_path / "push.json"
    arguments = (stack.label_studio_url, stack.login.token, project_id, rows, journal)
    child = multiprocessing.get_context("spawn").Process(target=push_slowly, args=arguments)
    child.start()
    client = stack.client()
    wait_for(lambda: client.model_versions(project_id).get(VERSION, 0) >= held_at_least, "the first calls")
    child.kill()
    child.join()
    assert client.model_versions(project_id)[VERSION] < TASKS, "killed in the middle"
    Pusher(client, project_id, VERSION, journal).push(rows)
    assert_one_each(client, project_id, rows)


def test_a_call_that_timed_out_but_arrived_is_not_sent_again(stack: Stack, pool, tmp_path, monkeypatch) -> None:
    project_id, rows = pool
    client, hasty = stack.client(), stack.client()
    request = hasty.request

    def give_up_early(method: str, path: str, **options: object) -> object:
        if path.endswith("/import/predictions"):
            options["timeout"] = 0.05
        return request(method, path, **options)

    monkeypatch.setattr(hasty, "request", give_up_early)
    with pytest.raises(LabelStudioBusy):
        Pusher(hasty, project_id, VERSION, tmp_path / "push.json").push(rows)
    Pusher(client, project_id, VERSION, tmp_path / "push.json").push(rows)
    assert_one_each(client, project_id, rows)


def test_old_versions_go_and_those_of_others_stay(stack: Stack, make_project, monkeypatch) -> None:
    client = stack.client()

    def old(version: str, project_id: int) -> None:
        tasks = [task.id for task in client.tasks(project_id) if not task.is_labeled]
        rows = [{"task": task, "score": 0.5, "model_version": version, "result": []} for task in tasks]
        client.import_predictions(project_id, rows)

    project, folder, _ = make_project(
        "cleaning", 12, 6, lambda project: old("maskal-r5", project.id), initial_datasize=6, pool_size=100
    )
    made = wait_for(lambda: [r for r in all_rounds(folder) if r.is_concluded], "the first version")[0]
    assert made.version == "maskal-r6", "numbers go on above what Label Studio holds"
    old("maskal-r4", project.id)
    old("somebody", project.id)
    remove_old_predictions(stack, folder, is_lock_over=False)
    assert client.model_versions(project.id) == dict.fromkeys(("maskal-r4", "maskal-r5", "maskal-r6", "somebody"), 6)
    monkeypatch.setattr(task_queue, "SMALL_VERSION", 2)  # so that they go one by one
    remove_old_predictions(stack, folder, is_lock_over=True)
    assert client.model_versions(project.id) == {"maskal-r6": 6, "somebody": 6}


def test_predictions_are_found_among_those_of_versions_whose_names_contain_theirs(stack: Stack, pool) -> None:
    project_id, rows = pool
    client, last = stack.client(), [row.task for row in rows[-3:]]
    longer = [f"{VERSION}{number}" for number in range(50)]  # too many for the cell that lists them

    def row(version: str, task: int) -> dict[str, object]:
        return {"task": task, "score": 0.5, "model_version": version, "result": []}

    crowd = [row(version, last[0]) for version in longer]
    client.import_predictions(project_id, [*(row(longer[0], r.task) for r in rows), *crowd])
    client.import_predictions(project_id, [row(VERSION, task) for task in last])
    assert client.tasks_with_version(project_id, VERSION) == set(last)
    assert client.count_open(project_id, VERSION) == len(last) and client.count_open(project_id, longer[0]) == TASKS
    lacking, number = client.open_tasks_without(project_id, VERSION, 10)
    assert [task.id for task in lacking] == [r.task for r in rows[:10]] and number == TASKS - len(last)
    found = client.predictions_of(project_id, VERSION, 2)
    assert len(found) == 2
    for prediction in found:
        client.delete_prediction(prediction)
    (left,) = client.predictions_of(project_id, VERSION, 2)
    client.delete_prediction(left)
    assert client.predictions_of(project_id, VERSION, 2) == [] and VERSION not in client.model_versions(project_id)


def test_a_look_that_finds_nothing_costs_one_small_call_and_a_close_one_a_few(stack: Stack, make_project) -> None:
    _, folder, _ = make_project("quiet", 12, 6, initial_datasize=6, pool_size=100)
    wait_for(lambda: [r for r in all_rounds(folder) if r.is_concluded], "the first version")
    redis = Redis.from_url(stack.settings.redis_url)

    def look() -> dict[str, int]:
        with counted() as counts:
            examine_project(redis, stack.settings, folder)
        return counts

    wait_for(lambda: look()["calls"] == 1, "a look that rests", 60)
    assert look()["bytes"] < 5000
    redis.delete(f"maskal:rest:{folder.uid}")
    close = look()
    assert 1 < close["calls"] <= 3 and close["bytes"] < 5000
