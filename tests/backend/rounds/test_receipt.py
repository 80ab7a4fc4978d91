from __future__ import annotations

from pathlib import Path
from typing import Any

from backend.project.folder import connect_folder
from backend.rounds.receipt import Line, Receipt, note_annotations
from tests.backend.fake_label_studio import FakeLabelStudio, place_of
from tests.backend.round_places import region_of

UID = "1.1700000000"


class Annotated:
    """A project with two tasks annotated before its receipt begins, and predictions of maskal-r1 for the others."""

    def __init__(self, data_dir: Path) -> None:
        self.client = FakeLabelStudio(UID, 6, 2)
        self.folder = connect_folder(data_dir, UID)
        self.place = place_of(self.folder, self.client)
        self.receipt = Receipt(self.folder.path)
        for task in range(3, 7):
            self.predict(task, "maskal-r1")

    def predict(self, task: int, version: str) -> int:
        prediction = {"id": 100 * task, "model_version": version, "result": [region_of(task)]}
        self.client.stored[task].append(prediction)
        return 100 * task

    def submit(self, task: int, **fields: Any) -> None:
        self.client.annotate(task)
        self.client.annotations[task][0] |= {"lead_time": 12.5, "completed_by": 7, **fields}

    def line(self, task: int) -> Line:
        return self.receipt.newest()[task]


def test_an_annotation_is_written_down_with_what_it_began_from(tmp_path: Path) -> None:
    project = Annotated(tmp_path)
    assert note_annotations(project.place) == (1, 2)
    project.submit(3, parent_prediction=300)
    project.submit(4)
    assert {3, 4} <= set(note_annotations(project.place))
    first, helped, blank = project.line(1), project.line(3), project.line(4)
    assert (first.version, first.is_known) == (None, False), "of before the receipt"
    assert (helped.version, helped.is_known, helped.lead_time_s, helped.who) == ("maskal-r1", True, 12.5, 7)
    assert helped.corrections is not None and (helped.corrections.kept, helped.corrections.added) == (1, 0)
    assert (blank.version, blank.is_known, blank.corrections) == (None, True, None)


def test_an_older_annotation_whose_prediction_is_still_there_is_known(tmp_path: Path) -> None:
    project = Annotated(tmp_path)
    project.submit(3, parent_prediction=300)
    note_annotations(project.place)
    assert (project.line(3).version, project.line(3).is_known) == ("maskal-r1", True)


def test_what_was_known_outlives_its_prediction(tmp_path: Path) -> None:
    project = Annotated(tmp_path)
    note_annotations(project.place)
    project.submit(3, parent_prediction=300)
    note_annotations(project.place)
    before = project.line(3)
    project.client.stored[3].clear()
    project.submit(3, parent_prediction=None, lead_time=20.0)
    project.submit(1, parent_prediction=None)
    note_annotations(project.place)
    after = project.line(3)
    assert (after.version, after.corrections) == (before.version, before.corrections) and after.lead_time_s == 20.0
    assert not project.line(1).is_known, "an edit makes no older annotation known"


def test_a_state_is_written_down_once_also_after_a_kill_before_the_mark(tmp_path: Path) -> None:
    project = Annotated(tmp_path)
    note_annotations(project.place)
    project.submit(3)
    note_annotations(project.place)
    lines = project.receipt.path.read_text().splitlines()
    assert note_annotations(project.place) == (), "nothing was touched"
    project.receipt.add([], "2026-01-01T00:00:01Z")
    assert note_annotations(project.place)
    assert project.receipt.path.read_text().splitlines() == lines and len(lines) == 3


def test_skipped_tasks_and_projects_without_tasks_leave_no_line(tmp_path: Path) -> None:
    project = Annotated(tmp_path)
    project.submit(3, was_cancelled=True)
    note_annotations(project.place)
    assert set(project.receipt.newest()) == {1, 2}
    empty = place_of(connect_folder(tmp_path / "other", UID), FakeLabelStudio(UID, 0, 0))
    assert note_annotations(empty) == ()


def test_a_torn_line_costs_only_itself(tmp_path: Path) -> None:
    project = Annotated(tmp_path)
    note_annotations(project.place)
    with project.receipt.path.open("a") as file:
        file.write('{"annotation": 9, "ta')
    assert set(project.receipt.newest()) == {1, 2}
    project.submit(3)
    note_annotations(project.place)
    assert set(project.receipt.newest()) == {1, 2, 3}
    assert len(project.receipt.path.read_text().splitlines()) == 3
