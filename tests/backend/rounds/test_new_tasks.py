from __future__ import annotations

from pathlib import Path

import pytest

from backend.rounds import new_tasks
from backend.rounds.near_copies import FORMAT
from backend.rounds.new_tasks import score_new_tasks
from backend.rounds.scored import Scored
from model.files import write_json
from tests.backend.round_places import quiet
from tests.backend.rounds.test_near_copies import TASKS, Project, row
from tests.backend.rounds.test_task_queue import registry


def test_of_late_images_that_come_together_one_of_each_scene_comes_first(tmp_path: Path) -> None:
    project = Project(tmp_path, annotated=TASKS)
    versions = registry(project.folder.path, (1, None))
    versions.write_ranking("maskal-r1", [row(5, 0.1)])
    versions.set_current("maskal-r1")
    shown = {20: "bare", 21: "hail", 22: "bare", 23: "bare", 24: "hail"}
    twins = [(one, other) for one in shown for other in shown if one < other and shown[one] == shown[other]]
    stored = {"format": FORMAT, "tasks": None, "obstacle": "", "pairs": twins, "images": {}}
    write_json(project.folder.path / "near_copies.json", stored)
    for task in shown:
        project.server.annotations[task], project.server.stored[task] = [], []
    with pytest.MonkeyPatch.context() as all_train:
        all_train.setattr(new_tasks, "split_of", lambda data, task, uid: "train")
        score_new_tasks(project.place, quiet, lambda *wanted: ((task, Scored(0.5, [])) for task in wanted[2]))
    late = {one.task: one.copy_of for one in versions.read_ranking("maskal-r1") if one.task in shown}
    assert late == {20: None, 21: None, 22: 20, 23: 20, 24: 21}
    scores = {task: rows[-1]["score"] for task, rows in project.server.stored.items() if task in shown}
    assert scores == {20: 0.5, 21: 0.5, 22: 1.0, 23: 1.0, 24: 1.0}
