"""What an annotator has on the screen can be submitted, whatever is published meanwhile, on the real Label Studio."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from redis import Redis

from backend.care.rollback import roll_back
from backend.demo.stack import Stack
from backend.label_studio.client import LabelStudio
from backend.project.folder import ProjectFolder
from backend.project.workplace import open_workplace
from backend.queue.jobs import RUN_ROUND
from backend.queue.locks import held
from backend.rounds import steps
from backend.rounds.folder import start_round
from tests.backend.round_places import quiet
from tests.e2e.users import add_annotator
from tests.e2e.waiting import concluded, remove_old_predictions, wait_for

pytestmark = pytest.mark.e2e


@dataclass(frozen=True)
class Screen:
    """An annotator's label stream: the task that it got, and the prediction that the editor began with."""

    user: LabelStudio
    task: int
    prediction: int
    version: str

    def submit(self) -> tuple[int, str]:
        """Status and text of the answer to Submit, sent as the editor sends it."""
        body = {"result": [], "lead_time": 1.0, "parent_prediction": self.prediction}
        answer = self.user.http.post(f"/api/tasks/{self.task}/annotations", json=body)
        return answer.status_code, answer.text


def open_task(stack: Stack, project_id: int) -> Screen:
    """Let a new annotator press Label All Tasks."""
    user = add_annotator(stack)
    row = user.request("GET", f"/api/projects/{project_id}/next")
    (prediction,) = row["predictions"]
    return Screen(user, row["id"], prediction["id"], prediction["model_version"])


def publish_without_parent(stack: Stack, folder: ProjectFolder) -> None:
    """Take a round to its end in the worker's place, which would wait for annotations first."""
    with held(Redis.from_url(stack.settings.redis_url), RUN_ROUND.lock_for(folder.uid), wait_s=60) as is_mine:
        assert is_mine, "the worker is at a round of its own"
        current = start_round(folder, 0)
        steps.run(open_workplace(stack.settings, folder), current, quiet)
    assert folder.registry.current() == current.version and folder.registry.get(current.version).parent is None


def test_an_open_task_is_submitted_after_versions_without_a_parent_and_a_rollback(stack: Stack, make_project) -> None:
    project, folder, _ = make_project("open tasks", 12, 6, initial_datasize=6, pool_size=100, warm_start=False)
    client = stack.client()
    wait_for(lambda: concluded(folder, 1), "the first version")
    first, slow = open_task(stack, project.id), open_task(stack, project.id)
    publish_without_parent(stack, folder)
    remove_old_predictions(stack, folder, is_lock_over=False)
    assert first.version == "maskal-r1" and first.submit()[0] == 201

    second = open_task(stack, project.id)
    roll_back(stack.settings, Redis.from_url(stack.settings.redis_url), folder, "maskal-r1")
    remove_old_predictions(stack, folder, is_lock_over=False)
    third = open_task(stack, project.id)
    publish_without_parent(stack, folder)
    remove_old_predictions(stack, folder, is_lock_over=False)
    assert second.version == "maskal-r2" and second.submit()[0] == 201
    assert third.version == "maskal-r1" and third.submit()[0] == 201

    assert set(client.model_versions(project.id)) == {"maskal-r1", "maskal-r2", "maskal-r3"}
    remove_old_predictions(stack, folder, is_lock_over=True)
    assert set(client.model_versions(project.id)) == {"maskal-r3"}
    status, text = slow.submit()
    assert status == 400 and "parent_prediction" in text, "who is slower than the lock reloads the page, see README.md"
