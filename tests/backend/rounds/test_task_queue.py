from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import torch

from backend.label_studio.client import Project, Task
from backend.label_studio.labels import parse_label_config
from backend.project.config import ProjectConfig
from backend.project.folder import connect_folder
from backend.project.workplace import Workplace
from backend.rounds import task_queue
from backend.rounds.first_queue import FirstTask, write_first_queue
from backend.rounds.folder import FAILED, STATES, Round
from backend.rounds.receipt import Receipt
from backend.rounds.retired import LONGEST_STEP_S
from backend.rounds.scoring import Scored
from model.rankings import RankedTask
from model.registry import Registry, VersionFields
from model.stored_weights import add_version
from sampling.ranking import Moment
from tests.backend.configs import POLYGONS

REGION = {"id": "m0"}


@dataclass
class FakeLabelStudio:
    """Keeps what is sent."""

    arrived: dict[str, set[int]] = field(default_factory=dict)
    model_version: str = "MaskAL"
    deleted: list[str] = field(default_factory=list)
    annotated: list[Task] = field(default_factory=list)

    def newest_change(self, project_id: int) -> str:
        return max((a["updated_at"] for task in self.annotated for a in task.annotations), default="")

    def annotated_since(self, project_id: int, since: str | None) -> list[Task]:
        return self.annotated

    def project(self, project_id: int) -> Project:
        return Project(project_id, "1.1", "t", "<View/>", self.model_version, (0, 0, 0))

    def update_project(self, project_id: int, model_version: str) -> None:
        self.model_version = model_version

    def model_versions(self, project_id: int) -> dict[str, int]:
        return {version: len(tasks) for version, tasks in self.arrived.items() if tasks}

    def delete_version(self, project_id: int, version: str) -> None:
        self.deleted.append(version)
        del self.arrived[version]

    def predictions_of(self, project_id: int, version: str, limit: int) -> list[int]:
        return sorted(self.arrived[version])[:limit]

    def delete_prediction(self, prediction: int) -> None:
        self.deleted.append(str(prediction))
        self.arrived["maskal-r1"].remove(prediction)


LOCK_S = 3 * LONGEST_STEP_S


class Tidied:
    """A project whose versions are published, and whose old predictions are looked for; `now` is its clock."""

    def __init__(self, data_dir: Path, *held: str) -> None:
        self.folder = connect_folder(data_dir, "1.1")
        self.server = FakeLabelStudio({version: {1} for version in held})
        self.place = cast(
            Workplace, SimpleNamespace(folder=self.folder, client=self.server, labels=parse_label_config(POLYGONS))
        )
        self.now = 1_800_000_000.0

    def publish(self, number: int, parent: str | None) -> None:
        """A round's version, as its last steps publish it."""
        registry(self.folder.path, (number, parent))
        self.server.arrived[f"maskal-r{number}"] = {1}
        self.serve(f"maskal-r{number}")

    def serve(self, version: str) -> None:
        self.server.arrived.setdefault(version, {1})
        self.folder.registry.set_current(version)
        task_queue.publish(self.server, self.folder.registry, self.server.project(1))

    def look(self) -> set[str]:
        """What is held after one look."""
        project = self.server.project(1)
        assert not task_queue.remove_old_predictions(self.place, project, LOCK_S, now=self.now), "all is done"
        return set(self.server.arrived)

    def looks_for(self, seconds: float) -> set[str]:
        """What is held after so much time with a worker, which looks at the beginning too."""
        self.look()
        for _ in range(int(seconds // LONGEST_STEP_S)):
            self.now += LONGEST_STEP_S
            self.look()
        self.now += seconds % LONGEST_STEP_S
        return self.look()


def registry(folder: Path, *names: tuple[int, str | None]) -> Registry:
    made = Registry(folder)
    for number, parent in names:
        fields = VersionFields(number, ("a",), "fake", {}, {}, parent, "", True, "")
        add_version(made, fields, {"colours": torch.zeros(1, 3)})
    return made


def test_publishing_sets_the_version_where_it_differs_and_exists(tmp_path: Path) -> None:
    versions, server = registry(tmp_path, (1, None)), FakeLabelStudio()
    assert task_queue.largest_number(server, 1) == 0
    task_queue.publish(server, versions, server.project(1))
    assert server.model_version == "MaskAL", "nothing is served yet"
    versions.set_current("maskal-r1")
    task_queue.publish(server, versions, server.project(1))
    assert server.model_version == "MaskAL", "Label Studio refuses a version without predictions"
    server.arrived["maskal-r1"] = {1}
    task_queue.publish(server, versions, server.project(1))
    assert server.model_version == "maskal-r1"
    server.update_project = None  # type: ignore[method-assign, assignment]
    task_queue.publish(server, versions, server.project(1))  # asks nothing of Label Studio where it follows already


def names(*numbers: int) -> set[str]:
    return {f"maskal-r{number}" for number in numbers}


def test_the_version_served_before_stays_whatever_its_parent_until_the_task_lock_has_run_out(tmp_path: Path) -> None:
    project = Tidied(tmp_path, "somebody-else", "maskal-r0")
    others = {"somebody-else", "maskal-r0"}
    project.publish(1, None)
    project.publish(2, None)
    assert project.look() == others | names(1, 2)
    assert project.looks_for(LOCK_S - 1) == others | names(1, 2)
    assert project.looks_for(1) == others | names(2)
    project.publish(3, "maskal-r2")
    assert project.looks_for(3 * LOCK_S) == others | names(2, 3), "the parent stays as long as its child is served"
    assert task_queue.largest_number(project.server, 1) == 3


def test_the_first_order_goes_like_any_version_but_one_that_is_not_ours_stays(tmp_path: Path) -> None:
    project = Tidied(tmp_path, "maskal-r0")
    write_first_queue(project.folder, [FirstTask(1, 0.5, "train", "")])
    project.server.model_version = "maskal-r0"
    assert project.looks_for(2 * LOCK_S) == {"maskal-r0"}, "there is no version yet"
    project.publish(1, None)
    assert project.looks_for(LOCK_S - 1) == {"maskal-r0", "maskal-r1"}
    assert project.looks_for(1) == {"maskal-r1"}


def test_all_that_were_served_within_a_task_lock_stay_each_for_its_own_time(tmp_path: Path) -> None:
    project = Tidied(tmp_path)
    for number in (1, 2, 3, 4):
        project.publish(number, None)
        project.looks_for(LOCK_S / 4)
    assert project.look() == names(1, 2, 3, 4)
    assert project.looks_for(LOCK_S / 4) == names(2, 3, 4)
    assert project.looks_for(LOCK_S / 4) == names(3, 4)


def test_after_a_rollback_the_larger_versions_go_once_the_lock_has_run_out(tmp_path: Path) -> None:
    project = Tidied(tmp_path)
    for number in (1, 2, 3, 4):
        project.publish(number, f"maskal-r{number - 1}" if number > 1 else None)
    project.serve("maskal-r2")
    assert project.looks_for(LOCK_S - 1) == names(1, 2, 3, 4)
    assert project.looks_for(1) == names(1, 2)


def test_before_a_prediction_goes_it_is_written_down_who_began_with_it(tmp_path: Path) -> None:
    project = Tidied(tmp_path)
    project.publish(1, None)
    project.publish(2, None)
    prediction = {"id": 5, "model_version": "maskal-r1", "result": []}
    annotation = {"id": 9, "parent_prediction": 5, "result": [], "updated_at": "2026-01-01T00:00:00Z"}
    project.looks_for(LOCK_S - 1)
    project.server.annotated = [Task(1, {}, True, [annotation], [prediction])]  # and no other look before it goes
    delete, known = project.server.delete_version, []
    project.server.delete_version = lambda *names: (  # type: ignore[method-assign, assignment, func-returns-value]
        known.extend(Receipt(project.folder.path).newest().values()),
        delete(*names),
    )
    project.now += 1
    assert project.look() == names(2)
    assert [line.version for line in known] == ["maskal-r1"]


def test_a_version_that_was_served_again_for_a_moment_has_its_whole_time(tmp_path: Path) -> None:
    project = Tidied(tmp_path)
    project.publish(1, None)
    project.publish(2, None)
    project.looks_for(LOCK_S - 1)
    project.serve("maskal-r1")
    project.serve("maskal-r2")  # and no look in between
    assert project.looks_for(LOCK_S - 1) == names(1, 2)
    assert project.looks_for(1) == names(2)


def test_a_version_that_its_round_is_pushing_stays_and_what_a_failed_one_left_goes(tmp_path: Path) -> None:
    project = Tidied(tmp_path)
    project.publish(1, None)
    begun = Round(project.folder.rounds / "2")
    begun.state.state = "ranked"
    begun.save()
    project.server.arrived["maskal-r2"] = {1}
    assert project.looks_for(3 * LOCK_S) == names(1, 2)
    begun.state.state = FAILED
    begun.save()
    assert project.looks_for(LOCK_S) == names(1)


def test_a_round_that_ends_during_a_look_is_not_taken_for_an_old_one(tmp_path: Path) -> None:
    project = Tidied(tmp_path)
    project.publish(1, None)
    registry(project.folder.path, (2, None))
    begun = Round(project.folder.rounds / "2")
    begun.state.state = "pushed"
    begun.save()
    project.server.arrived["maskal-r2"] = {1}
    look_at_versions = project.server.model_versions

    def end_round(project_id: int) -> dict[str, int]:
        held = look_at_versions(project_id)
        project.folder.registry.set_current("maskal-r2")
        begun.state.state = STATES[-1]
        begun.save()
        return held

    project.server.model_versions = end_round  # type: ignore[method-assign]
    assert not task_queue.remove_old_predictions(project.place, project.server.project(1), 0, now=project.now)
    assert set(project.server.arrived) == names(1, 2), "what the queue still follows, and what is served"


def test_what_the_queue_still_follows_stays(tmp_path: Path) -> None:
    project = Tidied(tmp_path)
    project.publish(1, None)
    registry(project.folder.path, (2, None))
    project.folder.registry.set_current("maskal-r2")
    task_queue.publish(project.server, project.folder.registry, project.server.project(1))
    assert project.server.model_version == "maskal-r1", "no task is open, so there is no prediction of the new one"
    assert project.looks_for(2 * LOCK_S) == names(1)
    project.serve("maskal-r2")
    assert project.looks_for(LOCK_S - 1) == names(1, 2)
    assert project.looks_for(1) == names(2)


def test_a_project_that_an_older_release_left_loses_nothing_at_once(tmp_path: Path) -> None:
    project = Tidied(tmp_path, *names(5, 6, 7, 9))
    registry(project.folder.path, (7, "maskal-r6"))
    project.serve("maskal-r7")
    assert not (project.folder.path / "retired.json").exists()
    assert project.looks_for(LOCK_S - 1) == names(5, 6, 7, 9)
    assert project.looks_for(1) == names(6, 7)


def test_a_clock_that_jumps_takes_no_prediction_away(tmp_path: Path) -> None:
    project = Tidied(tmp_path)
    project.publish(1, None)
    project.publish(2, None)
    project.look()
    for jump_s in (1e9, -2e9):
        project.now += jump_s
        assert project.look() == names(1, 2)
    assert project.looks_for(LOCK_S) == names(2)


def test_a_large_old_version_goes_one_by_one_until_the_time_is_over(tmp_path: Path) -> None:
    project = Tidied(tmp_path)
    project.publish(1, None)
    project.publish(2, None)
    project.server.arrived["maskal-r1"] = set(range(600))
    seen = project.server.project(1)
    assert task_queue.remove_old_predictions(project.place, seen, 0, now=project.now, budget_s=-1)
    assert project.server.deleted == [], "no time left"
    assert not task_queue.remove_old_predictions(project.place, seen, 0, now=project.now)
    assert project.server.deleted == [str(prediction) for prediction in range(600)]


def test_the_queue_is_ascending_and_held_out_tasks_may_go_without_pre_labels() -> None:
    scored = {task: Scored(task / 10, [REGION]) for task in range(1, 9)}
    scored[9] = Scored(None, [])
    splits = {task: "val" if task in (4, 8) else "train" for task in scored}
    config = ProjectConfig(holdout_prelabels=False)
    queue = task_queue.order_tasks(scored, splits, config.ranking_config(), Moment(1))
    scores = [row.score for row in queue]
    assert scores == sorted(scores) and [row.place for row in queue] == list(range(9))
    assert queue[0].task == 1 and next(row for row in queue if row.task == 9).certainty is None
    shown = task_queue.with_regions(queue, lambda task: scored[task].regions, config)
    assert {row.task for row in shown if not row.regions} == {4, 8, 9}
    late = task_queue.order_tasks(scored, splits, config.ranking_config(), Moment(1, hold_out_last=True))
    assert {row.task for row in late[-2:]} == {4, 8}


def test_the_settings_decide_on_the_control_group_and_on_what_has_no_detections() -> None:
    scored = {task: Scored(task / 20, []) for task in range(1, 19)} | {19: Scored(None, []), 20: Scored(None, [])}
    splits = dict.fromkeys(scored, "train")

    def queue(**settings: object) -> tuple[RankedTask, ...]:
        config = ProjectConfig.model_validate(settings)
        return task_queue.order_tasks(scored, splits, config.ranking_config(), Moment(2))

    places = {name: [row.task for row in queue(without_detections=name)] for name in ("median", "first", "last")}
    assert set(places["first"][:2]) == set(places["last"][-2:]) == {19, 20}
    assert not {19, 20} & {*places["median"][:5], *places["median"][-5:]}
    assert set([row.task for row in queue(scoring="exact")][-2:]) == {19, 20}, "where MaskAL never chooses them"
    control = [row.is_control for row in queue(random_share=0.25)]
    assert sum(control) == 5 and any(control[:10]) and any(control[10:]), "a declared share, mixed in evenly"


def test_rare_classes_get_their_turn_from_the_counts_of_the_scores() -> None:
    scored = {task: Scored(task / 20, [], (1.0, 0.0)) for task in range(1, 19)} | {19: Scored(0.95, [], (0.0, 1.0))}
    config = ProjectConfig(strategy="class_aware")
    queue = task_queue.order_tasks(scored, dict.fromkeys(scored, "train"), config.ranking_config(), Moment(1))
    assert 19 in [row.task for row in queue[:2]]
