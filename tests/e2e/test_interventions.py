from __future__ import annotations

import pytest
from redis import Redis

from backend.care import status
from backend.care.cancel import cancel
from backend.care.rollback import roll_back
from backend.demo.data import true_regions
from backend.demo.stack import Stack
from backend.errors import BadSetting
from backend.label_studio.labels import parse_label_config
from backend.project.workplace import open_workplace
from backend.queue.jobs import round_job
from backend.rounds.folder import all_rounds, start_round
from backend.rounds.need import need_of
from tests.e2e.waiting import concluded, wait_for

pytestmark = pytest.mark.e2e


def test_an_earlier_version_is_served_again_by_registry_queue_and_label_studio(stack: Stack, make_project) -> None:
    project, folder, tasks = make_project("back", 14, 6, initial_datasize=6, pool_size=2, warm_start=False)
    client, redis = stack.client(), Redis.from_url(stack.settings.redis_url)
    wait_for(lambda: concluded(folder, 1), "the first version")
    redis.set(f"maskal:cancel:{folder.uid}", 1)  # what is left of a cancelled round is none of the next one's
    labels = parse_label_config(project.label_config)
    for _ in range(2):
        task = client.next_task(project.id)
        client.annotate(task.id, true_regions(tasks[task.id], labels))
    wait_for(lambda: concluded(folder, 2), "the second version")
    client.delete_version(project.id, "maskal-r1")  # as the cleaning does some versions later
    image = next(iter(tasks.values()))
    (late,) = client.import_tasks(
        project.id, [{"data": {"image": client.upload_image(project.id, image.name, image.content)}}]
    )

    told = roll_back(stack.settings, redis, folder, None)

    assert "is served by maskal-r1 again instead of maskal-r2; 6 predictions sent" in told
    assert folder.registry.current() == "maskal-r1"
    assert client.project(project.id).model_version == "maskal-r1"
    open_tasks = {task.id for task in client.tasks(project.id) if not task.is_labeled}
    first = next(row.task for row in folder.registry.read_ranking("maskal-r1") if row.task in open_tasks)
    assert client.next_task(project.id).id == first
    wait_for(lambda: client.tasks_with_version(project.id, "maskal-r1") == open_tasks, "the late task's score")
    assert late in open_tasks
    assert len(all_rounds(folder)) == 2, "nothing is trained by itself"
    assert "by maskal-r2 again instead of maskal-r1" in roll_back(stack.settings, redis, folder, "maskal-r2")
    assert client.project(project.id).model_version == "maskal-r2"


def test_where_there_is_nothing_to_go_back_to_it_says_so(stack: Stack, make_project) -> None:
    project, folder, _ = make_project("no way back", 8, 6, initial_datasize=6)
    redis = Redis.from_url(stack.settings.redis_url)
    wait_for(lambda: concluded(folder, 1), "the first version")
    for to, message in (
        (None, "maskal-r1 has no version before it to go back to; others: none"),
        ("maskal-r1", "maskal-r1 is the version that is served"),
        ("maskal-r7", "there is no accepted version 'maskal-r7'"),
    ):
        with pytest.raises(BadSetting, match=message):
            roll_back(stack.settings, redis, folder, to)
    begun = start_round(folder, 1)
    with pytest.raises(BadSetting, match=f"round 2 .* is under way .*maskal cancel --project {project.id}"):
        roll_back(stack.settings, redis, folder, None)
    begun.cancel()
    assert folder.registry.current() == "maskal-r1"


def test_a_round_that_is_trained_can_be_cancelled_and_does_not_start_itself_again(stack: Stack, make_project) -> None:
    project, folder, _ = make_project("cancelled", 8, 6, initial_datasize=6, train_iterations_base=1_000_000)
    redis = Redis.from_url(stack.settings.redis_url)

    def trains() -> bool:
        job = round_job(redis, folder.uid)
        return bool(job and job["progress"] and job["progress"]["step"] == "train" and job["progress"]["percent"] == 0)

    wait_for(trains, "the training")
    assert cancel(redis, folder).startswith("round 1 is being cancelled")
    cancelled = wait_for(lambda: concluded(folder, 1), "the end of the round")
    assert (cancelled.state.state, cancelled.weights.exists()) == ("cancelled", False)
    assert folder.registry.current() is None
    assert "  round 1 is cancelled" in list(status.describe(stack.settings, redis))
    place = open_workplace(stack.settings, folder)
    need = need_of(place, place.client.project(project.id), in_full=True)
    assert not need.is_due, need.reason
    assert cancel(redis, folder) == f"no round of project {project.id} is under way"
