"""Whether a round is due, as a look finds out that reads the annotations only where enough may have changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.project.config import ProjectConfig
from backend.project.folder import connect_folder
from backend.rounds.folder import CANCELLED, start_round
from backend.rounds.need import need_of
from backend.rounds.snapshots import Need
from backend.rounds.steps import run
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


def test_a_cancelled_round_is_no_loop(project: Learned) -> None:
    project.folder.store_config(project.folder.config().model_copy(update={"loops": 1}))
    project.place = place_of(project.folder, project.server)
    cancelled = start_round(project.folder, 0)
    cancelled.state.state = CANCELLED
    cancelled.save()
    for task in (9, 10, 11):
        project.server.annotate(task)
    assert project.need().is_due
