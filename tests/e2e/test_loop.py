from __future__ import annotations

import re
from contextlib import ExitStack

import httpx
import pytest
from redis import Redis

from backend.care import status
from backend.care.connect import Connection, connect
from backend.demo.data import true_regions
from backend.demo.stack import Stack
from backend.label_studio.client import TITLE
from backend.label_studio.labels import parse_label_config
from backend.project.credentials import BASIC_USER, SECRET_HEADER, load_credentials
from backend.project.workplace import open_workplace
from backend.queue.jobs import hint
from backend.queue.locks import held
from backend.rounds import steps
from backend.rounds.folder import STATES, Round, all_rounds, start_round
from tests.e2e.waiting import wait_for

pytestmark = pytest.mark.e2e


class Stopped(Exception):
    pass


def concluded(folder, count: int) -> Round | None:
    known = [r for r in all_rounds(folder) if r.is_concluded]
    return known[-1] if len(known) == count else None


def test_a_submission_leads_to_a_new_version_and_the_queue_follows_it(stack: Stack, make_project) -> None:
    project, folder, tasks = make_project("retraining", 12, 6, initial_datasize=6, pool_size=2)
    client = stack.client()
    wait_for(lambda: concluded(folder, 1), "the first version")
    assert client.project(project.id).model_version == "maskal-r1"
    labels = parse_label_config(project.label_config)
    for _ in range(2):
        task = client.next_task(project.id)
        client.annotate(task.id, true_regions(tasks[task.id], labels))
    wait_for(lambda: concluded(folder, 2), "the second version")
    assert client.project(project.id).model_version == "maskal-r2"
    ranking = folder.registry.read_ranking("maskal-r2")
    assert client.next_task(project.id).id == ranking[0].task
    assert client.tasks_with_version(project.id, "maskal-r2") == {row.task for row in ranking}


def test_status_tells_versions_ap_and_what_the_next_round_needs(stack: Stack, make_project) -> None:
    project, folder, tasks = make_project("told", 24, 16, initial_datasize=16, pool_size=3)
    wait_for(lambda: concluded(folder, 1), "the first version")
    redis = Redis.from_url(stack.settings.redis_url)

    def told() -> list[str]:
        lines = list(status.describe(stack.settings, redis, project.id))
        own = next(i for i, line in enumerate(lines) if line.startswith(f"project {project.id} ("))
        return lines[own:]

    head, need, *more = told()
    assert more[0].startswith("  task ") and " comes next: " in more[0]
    version = next(line for line in more if line.startswith("  maskal-r1: "))
    assert head.endswith("serving maskal-r1")
    assert need == "  the next round needs 3 more annotations (0 of 3 new or changed annotations)"
    measured = r"(mask AP \d\.\d{3}|no validation images)"
    trained = r"trained \d+ of 60 steps of 4 images, adamw, learning rate 0\.05, cosine, rare classes 1\.\d times"
    assert re.fullmatch(f"  maskal-r1: {measured}, promoted, first version; {trained}", version)
    client, labels = stack.client(), parse_label_config(project.label_config)
    for _ in range(2):
        task = client.next_task(project.id).id
        client.annotate(task, true_regions(tasks[task], labels))
    assert told()[1] == "  the next round needs 1 more annotation (2 of 3 new or changed annotations)"


def test_a_new_task_enters_the_queue_at_its_place(stack: Stack, make_project) -> None:
    project, folder, tasks = make_project("late task", 8, 6, initial_datasize=6)
    client = stack.client()
    wait_for(lambda: concluded(folder, 1), "the first version")
    image = next(iter(tasks.values()))
    address = client.upload_image(project.id, image.name, image.content)
    (late,) = client.import_tasks(project.id, [{"data": {"image": address}}])
    wait_for(lambda: late in client.tasks_with_version(project.id, "maskal-r1"), "the late task's prediction")
    (prediction,) = client.predictions(late)
    assert 0 <= prediction["score"] <= 1


def test_an_edited_and_a_deleted_annotation_count_as_changes(stack: Stack, make_project) -> None:
    project, folder, _ = make_project("edits", 8, 6, initial_datasize=6, pool_size=2)
    client = stack.client()
    wait_for(lambda: concluded(folder, 1), "the first version")
    edited, deleted = list(client.annotated_tasks(project.id))[:2]
    annotation = edited.annotations[0]
    client.request("PATCH", f"/api/annotations/{annotation['id']}", json={"result": []})
    client.request("DELETE", f"/api/annotations/{deleted.annotations[0]['id']}")
    second = wait_for(lambda: concluded(folder, 2), "the second round")
    assert len(second.snapshot().entries) == 5


def test_a_version_without_open_tasks_is_followed_once_there_is_one(stack: Stack, make_project) -> None:
    project, folder, tasks = make_project("all done", 5, 5, initial_datasize=5)
    client = stack.client()
    assert wait_for(lambda: concluded(folder, 1), "the first version").state.state == "published"
    image = next(iter(tasks.values()))
    client.import_tasks(project.id, [{"data": {"image": client.upload_image(project.id, image.name, image.content)}}])
    wait_for(lambda: client.project(project.id).model_version == "maskal-r1", "the served version")


def test_start_training_forces_a_round(stack: Stack, make_project) -> None:
    project, folder, _ = make_project("forced", 6, 4, initial_datasize=30)
    credentials = load_credentials(stack.settings)
    answer = httpx.post(
        f"{stack.settings.backend_url}/p/{project.id}/webhook",
        json={"action": "START_TRAINING"},
        auth=(BASIC_USER, credentials.basic_password),
    )
    assert answer.status_code == 201
    wait_for(lambda: concluded(folder, 1), "the forced version")
    status = httpx.post(
        f"{stack.settings.backend_url}/p/{project.id}/job_status",
        json={"job": answer.json()["job"]},
        auth=(BASIC_USER, credentials.basic_password),
    )
    assert status.status_code in (200, 410)


@pytest.mark.parametrize("step", [name for name, _ in steps.STEPS])
def test_a_round_that_stops_anywhere_goes_on_without_duplicates(stack: Stack, make_project, step: str) -> None:
    redis = Redis.from_url(stack.settings.redis_url)

    def stop(name: str, share: float, **details: object) -> None:
        if name == step:
            raise Stopped

    with ExitStack() as ours:
        keep_workers_away = lambda project: ours.enter_context(held(redis, f"round:{project.uid}"))  # noqa: E731
        project, folder, _ = make_project(f"stops at {step}", 8, 6, keep_workers_away, initial_datasize=6)
        place = open_workplace(stack.settings, folder)
        begun = start_round(place.folder, 0)
        with pytest.raises(Stopped):
            steps.run(place, begun, stop)
        assert begun.state.state == STATES[[name for name, _ in steps.STEPS].index(step)]
        resumed = Round(begun.path)
        steps.run(place, resumed, lambda name, share, **details: None)
    assert resumed.state.state == "published"
    client = stack.client()
    assert client.project(project.id).model_version == "maskal-r1"
    open_tasks = [task.id for task in client.tasks(project.id) if not task.is_labeled]
    assert [len(client.predictions(task)) for task in open_tasks] == [1, 1]


def test_the_webhook_of_the_project_carries_the_secret_and_strangers_are_refused(stack: Stack, make_project) -> None:
    project, _, _ = make_project("secrets", 2, 0)
    secret = load_credentials(stack.settings).webhook_secret
    address = f"{stack.settings.backend_url}/p/{project.id}/webhook"
    (hook,) = [h for h in stack.client().webhooks(project.id) if h["url"] == address]
    assert hook["headers"] == {SECRET_HEADER: secret}
    assert httpx.post(address, json={"action": "TASKS_CREATED"}).status_code == 401
    assert httpx.post(address, json={"action": "TASKS_CREATED"}, headers=hook["headers"]).status_code == 201


def test_connecting_twice_changes_nothing(stack: Stack, make_project) -> None:
    project, folder, _ = make_project("twice", 6, 4, initial_datasize=4)
    wait_for(lambda: concluded(folder, 1), "the first version")
    client = stack.client()
    before = (client.backends(project.id), client.webhooks(project.id))
    again = connect(stack.settings, Connection(project.id))
    after = (client.backends(project.id), client.webhooks(project.id))
    assert again.model_version == "maskal-r1", "adding the backend must not leave its title as the version"
    assert [len(part) for part in after] == [len(part) for part in before] == [1, 1]


def test_connecting_by_another_address_moves_backend_and_webhook(stack: Stack, make_project) -> None:
    project, _, _ = make_project("moved", 2, 0)
    moved = str(stack.settings.backend_url).replace("127.0.0.1", "localhost")
    connect(stack.settings, Connection(project.id, backend_url=moved))
    client = stack.client()
    assert [backend["url"] for backend in client.backends(project.id)] == [f"{moved}/p/{project.id}"]
    assert [hook["url"] for hook in client.webhooks(project.id)] == [f"{moved}/p/{project.id}/webhook"]


def test_reconcile_sets_the_version_again_when_somebody_changed_it(stack: Stack, make_project) -> None:
    project, folder, _ = make_project("changed", 6, 4, initial_datasize=4)
    client = stack.client()
    wait_for(lambda: concluded(folder, 1), "the first version")
    client.update_project(project.id, model_version=TITLE)
    assert client.project(project.id).model_version == TITLE
    hint(Redis.from_url(stack.settings.redis_url), project.uid)
    wait_for(lambda: client.project(project.id).model_version == "maskal-r1", "the served version")
