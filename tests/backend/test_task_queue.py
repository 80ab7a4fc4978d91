from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from backend import task_queue
from backend.client import Project, Task
from backend.config import ProjectConfig
from backend.scoring import Scored
from model.rankings import RankedTask
from model.registry import Registry, VersionFields

REGION = {"id": "m0"}


@dataclass
class FakeLabelStudio:
    """Keeps what is sent."""

    tasks_there: list[int]
    arrived: dict[str, set[int]] = field(default_factory=dict)
    model_version: str = "MaskAL"
    calls: list[int] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)

    def tasks(self, project_id: int) -> list[Task]:
        return [Task(task, {}, False) for task in self.tasks_there]

    def tasks_with_version(self, project_id: int, version: str) -> set[int]:
        return set(self.arrived.get(version, set()))

    def import_predictions(self, project_id: int, predictions: list[dict[str, Any]]) -> int:
        self.calls.append(len(predictions))
        for p in predictions:
            self.arrived.setdefault(p["model_version"], set()).add(p["task"])
        return len(predictions)

    def project(self, project_id: int) -> Project:
        return Project(project_id, "1.1", "t", "<View/>", self.model_version, (0, 0, 0))

    def update_project(self, project_id: int, model_version: str) -> None:
        self.model_version = model_version

    def model_versions(self, project_id: int) -> dict[str, int]:
        return {version: len(tasks) for version, tasks in self.arrived.items()}

    def delete_version(self, project_id: int, version: str) -> None:
        self.deleted.append(version)


def registry(folder: Path, *names: tuple[int, str | None]) -> Registry:
    made = Registry(folder)
    for number, parent in names:
        made.add(VersionFields(number, ("a",), "fake", {}, {}, parent, "", True, ""), {"colours": torch.zeros(1, 3)})
    return made


def rows(*tasks: int) -> list[RankedTask]:
    return [RankedTask(task, 0.5, place, 0.5, "train", []) for place, task in enumerate(tasks)]


def test_only_what_is_missing_is_sent_and_deleted_tasks_are_left_out() -> None:
    server = FakeLabelStudio([1, 2, 3, 4], {"maskal-r1": {2}})
    assert task_queue.push(server, 1, "maskal-r1", rows(1, 2, 3, 9)) == 2
    assert server.arrived["maskal-r1"] == {1, 2, 3}
    assert task_queue.push(server, 1, "maskal-r1", rows(1, 2, 3, 9)) == 0


def test_large_queues_go_in_few_large_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_queue, "PUSH_SIZE", 4)
    server, shares = FakeLabelStudio(list(range(10))), []
    task_queue.push(server, 1, "maskal-r1", rows(*range(10)), shares.append)
    assert server.calls == [4, 4, 2] and shares == [0.4, 0.8, 1.0]


def test_publishing_sets_the_version_where_it_differs_and_exists(tmp_path: Path) -> None:
    versions, server = registry(tmp_path, (1, None)), FakeLabelStudio([1])
    task_queue.publish(server, versions, 1)
    assert server.model_version == "MaskAL", "nothing is served yet"
    versions.set_current("maskal-r1")
    task_queue.publish(server, versions, 1)
    assert server.model_version == "MaskAL", "Label Studio refuses a version without predictions"
    server.arrived["maskal-r1"] = {1}
    task_queue.publish(server, versions, 1)
    assert server.model_version == "maskal-r1"


def test_predictions_of_the_served_version_its_parent_newer_and_foreign_ones_stay(tmp_path: Path) -> None:
    versions = registry(tmp_path, (3, "maskal-r2"))
    versions.set_current("maskal-r3")
    held = {name: {1} for name in ("maskal-r1", "maskal-r2", "maskal-r3", "maskal-r4", "somebody-else")}
    server = FakeLabelStudio([1], held)
    assert task_queue.remove_old_predictions(server, versions, 1) == server.deleted == ["maskal-r1"]
    assert task_queue.largest_number(server, 1) == 4


def test_the_queue_is_ascending_and_held_out_tasks_may_go_without_pre_labels() -> None:
    scored = {task: Scored(task / 10, [REGION]) for task in range(1, 9)}
    scored[9] = Scored(None, [])
    splits = {task: "val" if task in (4, 8) else "train" for task in scored}
    config = ProjectConfig(holdout_prelabels=False)
    queue = task_queue.order_tasks(scored, splits, config, seed=1, annotated_validation=0)
    scores = [row.score for row in queue]
    assert scores == sorted(scores) and [row.place for row in queue] == list(range(9))
    assert queue[0].task == 1 and next(row for row in queue if row.task == 9).certainty is None
    assert {row.task for row in queue if not row.regions} == {4, 8, 9}
    late = task_queue.order_tasks(scored, splits, config, seed=1, annotated_validation=150)
    assert {row.task for row in late[-2:]} == {4, 8}
