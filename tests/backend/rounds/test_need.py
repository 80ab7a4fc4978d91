"""Whether a round is due, as a look finds out that reads the annotations only where enough may have changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.project.config import ProjectConfig
from backend.project.folder import connect_folder
from backend.rounds import task_queue
from backend.rounds.folder import FAILED, start_round
from backend.rounds.need import need_of
from backend.rounds.reading import read_snapshot_of
from backend.rounds.snapshots import Need, write_snapshot
from backend.rounds.steps import run
from sampling.ranking import RankingConfig
from tests.backend.fake_label_studio import FakeLabelStudio, place_of
from tests.backend.round_places import quiet

TASKS, ANNOTATED, POOL = 12, 8, 3


class Learned:
    """A project whose first round has learned from ANNOTATED of its TASKS; POOL more make the next one due."""

    def __init__(self, data_dir: Path) -> None:
        self.folder = connect_folder(data_dir, "1.1")
        settings = {"engine": "fake", "train_iterations_base": 2, "initial_datasize": ANNOTATED, "pool_size": POOL}
        self.folder.store_config(ProjectConfig.model_validate(settings))
        self.server = FakeLabelStudio("1.1", TASKS, ANNOTATED)
        self.place = place_of(self.folder, self.server)
        run(self.place, start_round(self.folder, 0), quiet)

    def bring(self, *tasks: int) -> None:
        """Import tasks."""
        for task in tasks:
            self.server.annotations[task], self.server.stored[task] = [], []

    def learn_from(self, *tasks: int) -> None:
        """Annotate tasks and play the round that they make due."""
        for task in tasks:
            self.server.annotate(task)
        assert self.need().is_due
        run(self.place, start_round(self.folder, 0), quiet)

    def need(self) -> Need:
        return need_of(self.place, self.server.project(1), in_full=False)


@pytest.fixture
def project(tmp_path: Path) -> Learned:
    return Learned(tmp_path)


def test_images_that_came_after_a_round_count_once_they_are_annotated(project: Learned) -> None:
    project.bring(*range(13, 33))
    assert not project.need().is_due
    for task in (13, 14):
        project.server.annotate(task)
    assert (project.need().changed, project.need().missing) == (2, 1)
    project.server.annotate(15)
    assert project.need().is_due


def test_edits_and_what_is_gone_count_whatever_came_meanwhile(project: Learned) -> None:
    project.bring(13, 14, 15)
    project.server.annotate(1, {"id": "more", "type": "polygonlabels"})
    assert not project.need().is_due
    project.server.annotations[2] = []
    assert not project.need().is_due
    del project.server.annotations[3], project.server.stored[3]
    assert project.need().is_due


def test_after_the_loops_of_the_settings_a_round_begins_only_when_asked_for(project: Learned) -> None:
    project.folder.store_config(project.folder.config().model_copy(update={"loops": 1}))
    project.place = place_of(project.folder, project.server)
    project.learn_from(9, 10, 11)  # the first loop after the first version
    for task in (12, 1, 2):
        project.server.annotate(task, {"id": "more", "type": "polygonlabels"})
    need = project.need()
    assert (
        (need.is_due, need.missing) == (False, None) and "`loops: 1`" in need.reason and "Start Training" in need.reason
    )
    assert need_of(project.place, project.server.project(1), in_full=True, is_forced=True).is_due


def test_each_round_may_wait_for_another_number_of_images(project: Learned, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = list[int]()

    def order(scored: object, splits: object, config: RankingConfig, moment: object) -> tuple[()]:
        batches.append(config.batch)
        return ()

    monkeypatch.setattr(task_queue, "order_tasks", order)
    project.folder.store_config(project.folder.config().model_copy(update={"pool_size": [1, 3, 2]}))
    project.place = place_of(project.folder, project.server)
    wanted = list[tuple[int | None, int | None]]()
    project.bring(*range(13, 17))
    for tasks in ((9,), (10, 11, 12), (13, 14), (15, 16)):
        waits = need_of(project.place, project.server.project(1), in_full=True)
        wanted.append((project.need().missing, waits.missing))
        for task in tasks:
            project.server.annotate(task)
        assert project.need().is_due
        run(project.place, start_round(project.folder, 0), quiet)
    assert wanted == [(1, 1), (3, 3), (2, 2), (2, 2)], "the last number holds for all that follow"
    assert batches == [3, 2, 2, 2], "a queue is made for the images that come before the next round"


def test_a_cancelled_round_is_no_loop(project: Learned) -> None:
    project.folder.store_config(project.folder.config().model_copy(update={"loops": 1}))
    project.place = place_of(project.folder, project.server)
    cancelled = start_round(project.folder, 0)
    write_snapshot(cancelled.path / "snapshot.json", read_snapshot_of(project.place)[0])
    cancelled.cancel()
    for task in (9, 10, 11):
        project.server.annotate(task)
    assert project.need().is_due


def test_who_asks_for_a_round_gets_one_whatever_is_missing(project: Learned) -> None:
    seen = project.server.project(1)
    full = need_of(project.place, seen, in_full=True)
    assert (full.is_due, full.reason) == (False, "0 of 3 new or changed annotations")
    assert not project.need().is_due and need_of(project.place, seen, in_full=False, is_forced=True).is_due


def test_who_asks_for_the_first_round_gets_it_before_there_is_enough(tmp_path: Path) -> None:
    folder = connect_folder(tmp_path, "1.1")
    server = FakeLabelStudio("1.1", TASKS, 4)
    place = place_of(folder, server)
    early = need_of(place, server.project(1), in_full=True)
    assert (early.is_due, early.changed, early.missing) == (False, 4, folder.config().initial_datasize - 4)
    assert need_of(place, server.project(1), in_full=True, is_forced=True).is_due


def test_a_round_that_is_under_way_needs_no_other_on_the_same_annotations(project: Learned) -> None:
    for task in (9, 10, 11):
        project.server.annotate(task)
    begun = start_round(project.folder, 0)
    assert project.need().is_due, "nobody knows yet what it learns from"
    write_snapshot(begun.path / "snapshot.json", read_snapshot_of(project.place)[0])
    assert not project.need().is_due and project.need().reason == "round 2 is under way with the same annotations"


def test_a_failed_round_does_not_begin_again_on_the_same_annotations(project: Learned) -> None:
    for task in (9, 10, 11):
        project.server.annotate(task)
    failed = start_round(project.folder, 0)
    failed.state.state = FAILED
    failed.save()
    write_snapshot(failed.path / "snapshot.json", read_snapshot_of(project.place)[0])
    assert not project.need().is_due and project.need().reason == "round 2 failed on the same annotations"
    assert need_of(project.place, project.server.project(1), in_full=True, is_forced=True).is_due
    project.server.annotate(12)
    assert project.need().is_due


def test_a_look_reads_no_annotations_where_too_few_have_changed(
    project: Learned, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.server.annotate(9)
    monkeypatch.delattr("backend.rounds.need.read_snapshot_of")
    assert (project.need().is_due, project.need().missing) == (False, 2)


def test_one_annotation_before_the_first_round_is_told_as_one_of_those_wanted(tmp_path: Path) -> None:
    place = place_of(connect_folder(tmp_path, "1.1"), server := FakeLabelStudio("1.1", 40, 1))
    assert need_of(place, server.project(1), in_full=False) == Need(False, 1, 29, "1 of 30 annotated tasks")
