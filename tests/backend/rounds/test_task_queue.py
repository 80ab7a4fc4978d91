from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch

from backend.label_studio.client import Project
from backend.project.config import ProjectConfig
from backend.rounds import task_queue
from backend.rounds.scoring import Scored
from model.rankings import RankedTask
from model.registry import Registry, VersionFields

REGION = {"id": "m0"}


@dataclass
class FakeLabelStudio:
    """Keeps what is sent."""

    arrived: dict[str, set[int]] = field(default_factory=dict)
    model_version: str = "MaskAL"
    deleted: list[str] = field(default_factory=list)

    def project(self, project_id: int) -> Project:
        return Project(project_id, "1.1", "t", "<View/>", self.model_version, (0, 0, 0))

    def update_project(self, project_id: int, model_version: str) -> None:
        self.model_version = model_version

    def model_versions(self, project_id: int) -> dict[str, int]:
        return {version: len(tasks) for version, tasks in self.arrived.items()}

    def delete_version(self, project_id: int, version: str) -> None:
        self.deleted.append(version)

    def predictions_of(self, project_id: int, version: str, limit: int) -> list[int]:
        return sorted(self.arrived[version])[:limit]

    def delete_prediction(self, prediction: int) -> None:
        self.deleted.append(str(prediction))
        self.arrived["maskal-r1"].remove(prediction)


def registry(folder: Path, *names: tuple[int, str | None]) -> Registry:
    made = Registry(folder)
    for number, parent in names:
        made.add(VersionFields(number, ("a",), "fake", {}, {}, parent, "", True, ""), {"colours": torch.zeros(1, 3)})
    return made


def test_publishing_sets_the_version_where_it_differs_and_exists(tmp_path: Path) -> None:
    versions, server = registry(tmp_path, (1, None)), FakeLabelStudio()
    task_queue.publish(server, versions, server.project(1))
    assert server.model_version == "MaskAL", "nothing is served yet"
    versions.set_current("maskal-r1")
    task_queue.publish(server, versions, server.project(1))
    assert server.model_version == "MaskAL", "Label Studio refuses a version without predictions"
    server.arrived["maskal-r1"] = {1}
    task_queue.publish(server, versions, server.project(1))
    assert server.model_version == "maskal-r1"


def test_predictions_of_the_served_version_its_parent_newer_and_foreign_ones_stay(tmp_path: Path) -> None:
    versions = registry(tmp_path, (3, "maskal-r2"))
    versions.set_current("maskal-r3")
    held = {name: {1} for name in ("maskal-r1", "maskal-r2", "maskal-r3", "maskal-r4", "somebody-else")}
    server = FakeLabelStudio(held)
    assert not task_queue.remove_old_predictions(server, versions, 1), "nothing is left to do"
    assert server.deleted == ["maskal-r1"]
    assert task_queue.largest_number(server, 1) == 4


def test_a_large_old_version_goes_one_by_one_until_the_time_is_over(tmp_path: Path) -> None:
    versions = registry(tmp_path, (3, "maskal-r2"))
    versions.set_current("maskal-r3")
    server = FakeLabelStudio({"maskal-r1": set(range(600)), "maskal-r3": {1}})
    assert task_queue.remove_old_predictions(server, versions, 1, budget_s=-1)
    assert server.deleted == [], "no time left"
    assert not task_queue.remove_old_predictions(server, versions, 1)
    assert server.deleted == [str(prediction) for prediction in range(600)]


def test_the_queue_is_ascending_and_held_out_tasks_may_go_without_pre_labels() -> None:
    scored = {task: Scored(task / 10, [REGION]) for task in range(1, 9)}
    scored[9] = Scored(None, [])
    splits = {task: "val" if task in (4, 8) else "train" for task in scored}
    config = ProjectConfig(holdout_prelabels=False)
    queue = task_queue.order_tasks(scored, splits, config, number=1, annotated_validation=0)
    scores = [row.score for row in queue]
    assert scores == sorted(scores) and [row.place for row in queue] == list(range(9))
    assert queue[0].task == 1 and next(row for row in queue if row.task == 9).certainty is None
    assert {row.task for row in queue if not row.regions} == {4, 8, 9}
    late = task_queue.order_tasks(scored, splits, config, number=1, annotated_validation=150)
    assert {row.task for row in late[-2:]} == {4, 8}


def test_the_settings_decide_on_the_control_group_and_on_what_has_no_detections() -> None:
    scored = {task: Scored(task / 20, []) for task in range(1, 19)} | {19: Scored(None, []), 20: Scored(None, [])}
    splits = dict.fromkeys(scored, "train")

    def queue(**settings: object) -> tuple[RankedTask, ...]:
        config = ProjectConfig.model_validate(settings)
        return task_queue.order_tasks(scored, splits, config, number=2, annotated_validation=0)

    places = {name: [row.task for row in queue(without_detections=name)] for name in ("median", "first", "last")}
    assert set(places["first"][:2]) == set(places["last"][-2:]) == {19, 20}
    assert not {19, 20} & {*places["median"][:5], *places["median"][-5:]}
    assert set([row.task for row in queue(scoring="exact")][-2:]) == {19, 20}, "where MaskAL never chooses them"
    control = [row.is_control for row in queue(random_share=0.25)]
    assert sum(control) == 5 and any(control[:10]) and any(control[10:]), "a declared share, mixed in evenly"


def test_rare_classes_get_their_turn_from_the_counts_of_the_scores() -> None:
    scored = {task: Scored(task / 20, [], (1.0, 0.0)) for task in range(1, 19)} | {19: Scored(0.95, [], (0.0, 1.0))}
    config = ProjectConfig(strategy="class_aware")
    queue = task_queue.order_tasks(scored, dict.fromkeys(scored, "train"), config, number=1, annotated_validation=0)
    assert 19 in [row.task for row in queue[:2]]
