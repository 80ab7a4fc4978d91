"""Events are hints: every action is noticed, and lost, repeated or shuffled events change nothing."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from redis import Redis

from backend.demo.data import DemoImage, true_regions
from backend.demo.stack import Stack
from backend.label_studio.client import LabelStudio, Project
from backend.label_studio.labels import parse_label_config
from backend.queue.marks import key, last_event
from backend.rounds.folder import Round, all_rounds
from tests.e2e.relay import relay
from tests.e2e.waiting import wait_for

pytestmark = pytest.mark.e2e


def concluded(folder, count: int) -> Round | None:
    known = [r for r in all_rounds(folder) if r.is_concluded]
    return known[-1] if len(known) == count else None


def do(client: LabelStudio, project: Project, action: str, tasks: list[int]) -> None:
    """A bulk action of the Data Manager."""
    client.request(
        "POST",
        f"/api/dm/actions?id={action}&project={project.id}",
        json={"selectedItems": {"all": False, "included": tasks}},
    )


def first_annotation(client: LabelStudio, project: Project) -> int:
    return int(next(iter(client.annotated_tasks(project.id))).annotations[0]["id"])


ACTIONS: dict[str, Callable[[LabelStudio, Project, list[int]], object]] = {
    "ANNOTATION_CREATED": lambda c, p, t: c.annotate(t[0], []),
    "ANNOTATION_CREATED by a skip": lambda c, p, t: c.request(
        "POST", f"/api/tasks/{t[1]}/annotations", json={"result": [], "was_cancelled": True}
    ),
    "ANNOTATION_UPDATED": lambda c, p, t: c.request(
        "PATCH", f"/api/annotations/{first_annotation(c, p)}", json={"result": []}
    ),
    "ANNOTATIONS_DELETED": lambda c, p, t: c.request("DELETE", f"/api/annotations/{first_annotation(c, p)}"),
    "ANNOTATIONS_CREATED in bulk": lambda c, p, t: do(c, p, "predictions_to_annotations", t[2:4]),
    "ANNOTATIONS_DELETED in bulk": lambda c, p, t: do(c, p, "delete_tasks_annotations", t[2:4]),
    "TASKS_CREATED": lambda c, p, t: c.import_tasks(p.id, [{"data": {"image": "/data/upload/none.png"}}]),
    "TASKS_CREATED with annotations": lambda c, p, t: c.import_tasks(
        p.id, [{"data": {"image": "/data/upload/none.png"}, "annotations": [{"result": []}]}]
    ),
    "TASKS_DELETED": lambda c, p, t: c.request("DELETE", f"/api/tasks/{t[4]}"),
    "TASKS_DELETED in bulk": lambda c, p, t: do(c, p, "delete_tasks", t[5:7]),
    "PROJECT_UPDATED": lambda c, p, t: c.update_project(p.id, description="changed"),
}


def test_every_action_arrives_and_moves_what_a_look_compares(stack: Stack, make_project) -> None:
    project, _, tasks = make_project("actions", 8, 0, initial_datasize=100)
    client, redis = stack.client(), Redis.from_url(stack.settings.redis_url)
    ids = list(tasks)
    predicted = [{"task": task, "score": 0.5, "model_version": "somebody", "result": []} for task in ids]
    client.import_predictions(project.id, predicted)
    silent, unmoved, uncounted, resting = [], [], [], []
    for name, act in ACTIONS.items():
        arrived = last_event(redis, project.uid)
        before = (client.newest_change(project.id), client.project(project.id).counters)
        annotated = client.count_annotated(project.id)
        act(client, project, ids)
        after = (client.newest_change(project.id), client.project(project.id).counters)
        unmoved += [name] if before == after and not name.startswith("PROJECT") else []
        resting += [name] if before[1] == after[1] else []
        counted = client.count_annotated(project.id, before[0]) or client.count_annotated(project.id) != annotated
        uncounted += [name] if name.startswith("ANNOTATION") and not counted and "skip" not in name else []
        deadline = time.monotonic() + 3
        while last_event(redis, project.uid) == arrived and time.monotonic() < deadline:
            time.sleep(0.05)
        silent += [name] if last_event(redis, project.uid) == arrived else []
    assert silent == [], "no event came"
    assert unmoved == [], "a look would not notice it when the event is lost"
    assert uncounted == [], "a look would not read the annotations"
    assert resting == ["ANNOTATION_UPDATED", "PROJECT_UPDATED"], "a resting look would not notice it"


def annotate(client: LabelStudio, project: Project, tasks: dict[int, DemoImage], names: set[str]) -> None:
    labels = parse_label_config(project.label_config)
    for task, image in tasks.items():
        if image.name in names:
            client.annotate(task, true_regions(image, labels))


def test_lost_repeated_and_shuffled_events_lead_to_the_same_training_sets(stack: Stack, make_project) -> None:
    client = stack.client()
    made = [make_project(title, 14, 0, initial_datasize=6, pool_size=4) for title in ("calm", "rough")]
    rough = made[1][0]
    (hook,) = client.webhooks(rough.id)
    names = [image.name for image in made[0][2].values()]
    with relay(hook["url"], drop=0.3, repeat=0.3, delay_s=6) as (address, log):
        client.update_webhook(hook["id"], url=address)
        batches = (names[:6], names[6:10], names[10:12])
        for count, (batch, size) in enumerate(zip(batches, (6, 10, 11), strict=True), start=1):
            for project, _, tasks in made:
                if count == 3:  # with a withdrawal and a correction the four changes of a round
                    first, second = list(client.annotated_tasks(project.id))[:2]
                    client.request("DELETE", f"/api/annotations/{first.annotations[0]['id']}")
                    client.request("PATCH", f"/api/annotations/{second.annotations[0]['id']}", json={"result": []})
                annotate(client, project, tasks, set(batch))
            calm, rough_set = (trained_on(folder, tasks, count) for _, folder, tasks in made)
            assert calm == rough_set and len(calm) == size
    assert log.dropped > 0 and log.sent != sorted(log.sent) and len(log.sent) > len(set(log.sent))


def trained_on(folder, tasks: dict[int, DemoImage], count: int) -> dict[str, int]:
    """Names of the images that the last of `count` rounds was made of, each with its number of regions."""
    made = wait_for(lambda: concluded(folder, count), f"round {count}", 180)
    return {tasks[row.task].name: len(row.regions) for row in made.annotated()}


def test_without_any_event_a_change_is_found_within_a_minute(stack: Stack, make_project) -> None:
    project, folder, tasks = make_project("no events", 6, 0, initial_datasize=4)
    client = stack.client()
    (hook,) = client.webhooks(project.id)
    client.delete_webhook(hook["id"])
    annotate(client, project, tasks, {image.name for image in list(tasks.values())[:4]})
    annotated_at = time.monotonic()
    wait_for(lambda: all_rounds(folder), "the first round", 70)
    assert time.monotonic() - annotated_at < 60


def test_images_that_came_after_a_round_count_as_soon_as_they_are_annotated(stack: Stack, make_project) -> None:
    project, folder, tasks = make_project("later images", 9, 5, initial_datasize=5, pool_size=3)
    client = stack.client()
    wait_for(lambda: concluded(folder, 1), "the first version")
    seen = key("seen", project.uid)
    wait_for(lambda: Redis.from_url(stack.settings.redis_url).exists(seen), "a look that read all annotations")
    images = list(tasks.values())[:3]
    before = {task.id: task for task in client.tasks(project.id)}
    client.import_tasks(project.id, [{"data": before[task].data} for task in list(tasks)[:3]])
    later = sorted({task.id for task in client.tasks(project.id)} - before.keys())
    annotate(client, project, dict(zip(later, images, strict=True)), {image.name for image in images})
    made = wait_for(lambda: concluded(folder, 2), "the second version", 90)
    assert set(later) <= {entry.task for entry in made.snapshot().entries}


def test_deleted_tasks_vanish_from_queue_and_training(stack: Stack, make_project) -> None:
    project, folder, _ = make_project("deleted", 9, 5, initial_datasize=5, pool_size=2)
    client = stack.client()
    wait_for(lambda: concluded(folder, 1), "the first version")
    first, second = list(client.annotated_tasks(project.id))[:2]
    gone = [client.next_task(project.id).id, first.id, second.id]
    do(client, project, "delete_tasks", gone)
    made = wait_for(lambda: concluded(folder, 2), "the second version")
    assert made.state.state == "published"
    assert not {entry.task for entry in made.snapshot().entries} & set(gone)
    ranking = folder.registry.read_ranking(made.version)
    assert not {row.task for row in ranking} & set(gone)
    assert client.next_task(project.id).id == ranking[0].task
