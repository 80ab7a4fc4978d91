from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from backend.label_studio.corrections import Corrections
from backend.project.config import ProjectConfig
from backend.project.folder import connect_folder
from backend.rounds.folder import start_round
from backend.rounds.history import note_version
from backend.rounds.payoff import note_payoff, payoff_in_words, read_payoff, share_wrong
from backend.rounds.receipt import Line, Receipt
from backend.rounds.steps import run
from model.files import read_json
from model.rankings import RankedTask
from model.registry import VersionFields
from model.stored_weights import add_version
from tests.backend.fake_label_studio import FakeLabelStudio, place_of
from tests.backend.round_places import quiet

CONFIG = ProjectConfig(random_share=0.2)
RIGHT = Corrections(kept=4, moved=0, relabelled=0, deleted=0, added=0, iou=1.0)
HALF = Corrections(kept=2, moved=0, relabelled=1, deleted=0, added=1, iou=1.0)
WRONG = Corrections(kept=0, moved=0, relabelled=0, deleted=4, added=0, iou=None)


class Project:
    """One whose versions rank tasks of which each fourth comes by chance, and whose annotators correct them."""

    def __init__(self, data_dir: Path, config: ProjectConfig = CONFIG) -> None:
        self.folder, self.config = connect_folder(data_dir, "1.1"), config
        self.receipt = Receipt(self.folder.path)

    def measure(self, number: int, ap: float, *, classes: Sequence[str] = ("leaf",), network: str = "lite") -> None:
        metrics = {
            "mask_ap": ap,
            "interval": {"mask_ap": [ap - 0.02, ap + 0.02], "per_class": {}},
            "per_class": {name: {"mask_ap": ap} for name in classes},
            "images": 30,
            "training": {"images": 70 + 20 * number},
        }
        fields = VersionFields(number, tuple(classes), "fake", {"network": network}, metrics, None, "", True, "")
        note_version(self.folder, add_version(self.folder.registry, fields, {"w": torch.zeros(1)}))
        note_payoff(self.folder, self.config, f"maskal-r{number}")

    def rank(self, number: int, **kinds: object) -> None:
        """A ranking of a hundred tasks, in the order of their numbers."""
        rows = [self.row(1000 * number + place, place, place % 4 == 3, **kinds) for place in range(100)]
        self.folder.registry.write_ranking(f"maskal-r{number}", rows)

    def row(self, task: int, place: int, by_chance: bool, *, held_out: str = "") -> RankedTask:
        split = held_out if by_chance and held_out else "train"
        return RankedTask(task, 0.5, place, place / 100, split, [], is_control=by_chance and not held_out)

    def correct(self, number: int, places: Sequence[int], chosen: Corrections, by_chance: Corrections) -> None:
        """Annotate the tasks at these places of a version's queue."""
        tasks = [(1000 * number + place, by_chance if place % 4 == 3 else chosen) for place in places]
        lines = [Line(task, task, f"maskal-r{number}", True, 9.0, 1, "", found) for task, found in tasks]
        self.receipt.add(lines, "2026-01-01T00:00:00Z")

    def told(self) -> list[str]:
        return list(payoff_in_words(read_payoff(self.folder)))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_a_round_works_it_out_once_it_has_measured(tmp_path: Path) -> None:
    folder = connect_folder(tmp_path, "1.1700000000")
    folder.store_config(ProjectConfig(engine="fake", train_iterations_base=1, holdout_prelabels=False))
    run(place_of(folder, FakeLabelStudio(folder.uid, 12, 8)), start_round(folder, 0), quiet)
    stored = read_json(folder.path / "payoff.json")
    assert (stored["outlook"], stored["choice"]) == (None, None)
    found = {"strategy": "uncertainty", "shows_validation": False, "chosen": [], "by_chance": []}
    assert stored["queues"] == {"maskal-r1": found}


def test_nothing_is_said_of_a_project_that_has_seen_little(project: Project) -> None:
    assert project.told() == []
    project.measure(1, 0.5)
    project.rank(1)
    project.correct(1, range(40), HALF, HALF)
    project.measure(2, 0.5)
    assert project.told() == [] and read_payoff(project.folder).choice is None


def test_a_level_curve_is_told_with_what_it_rests_on(project: Project) -> None:
    for number in range(1, 8):
        project.measure(number, 0.5)
    (line,) = project.told()
    assert line.startswith("more images hardly help any more: 120 more, half as many again, are expected to bring ")
    assert "+0.000 mask AP (-0.0" in line and "with 90 % confidence" in line and "the last 7 versions" in line


def test_a_rising_curve_is_not_told(project: Project) -> None:
    for number in range(1, 8):
        project.measure(number, 0.3 + 0.05 * number)
    outlook = read_payoff(project.folder).outlook
    assert outlook is not None and outlook.gain > 0.1 and project.told() == []


@pytest.mark.parametrize("change", [{"classes": ("leaf", "spot")}, {"network": "nano"}])
def test_versions_of_other_classes_or_networks_say_nothing_of_the_newest(project: Project, change: dict) -> None:
    for number in range(1, 8):
        project.measure(number, 0.5, **(change if number < 3 else {}))
    assert read_payoff(project.folder).outlook is None
    project.measure(8, 0.5)
    outlook = read_payoff(project.folder).outlook
    assert outlook is not None and outlook.measurements == 6


def play(project: Project, chosen: Corrections, by_chance: Corrections, **kinds: object) -> None:
    """Two versions, of whose queues sixty tasks each are annotated."""
    for number in (1, 2):
        project.measure(number, 0.5)
        project.rank(number, **kinds)
        project.correct(number, range(60), chosen, by_chance)
    project.measure(3, 0.5)


@pytest.mark.parametrize("held_out", ["", "val"])
def test_choosing_hardly_pays_where_chance_finds_as_many_errors(project: Project, held_out: str) -> None:
    play(project, HALF, HALF, held_out=held_out)
    (line,) = project.told()
    assert line.startswith("choosing hardly pays over chance: annotators corrected 50 % of the objects in the last 90 ")
    assert "50 % in 30 that came by chance (1.00 times as much, 1.00 to 1.00 with 90 % confidence)" in line


def test_choosing_that_finds_more_errors_is_not_told(project: Project) -> None:
    play(project, WRONG, HALF)
    choice = read_payoff(project.folder).choice
    assert choice is not None and choice.times == pytest.approx(2.0) and project.told() == []


def test_validation_images_without_pre_labels_are_no_control_group(tmp_path: Path) -> None:
    project = Project(tmp_path, ProjectConfig(holdout_prelabels=False))
    play(project, HALF, HALF, held_out="val")
    assert read_payoff(project.folder).choice is None


def test_test_images_which_a_person_picked_are_no_control_group(project: Project) -> None:
    play(project, HALF, HALF, held_out="test")
    assert read_payoff(project.folder).choice is None


@pytest.mark.parametrize("strategy", ["random", "class_aware", "diverse"])
def test_strategies_that_do_not_look_for_errors_are_not_measured_by_them(tmp_path: Path, strategy) -> None:
    project = Project(tmp_path, ProjectConfig(strategy=strategy))
    play(project, HALF, HALF)
    assert read_payoff(project.folder).choice is None
    project.config = CONFIG
    project.measure(4, 0.5)
    assert read_payoff(project.folder).choice is None, "what was ranked otherwise before does not count after"


def test_tasks_that_somebody_picked_far_down_the_queue_do_not_count(project: Project) -> None:
    for number in (1, 2, 3):
        project.measure(number, 0.5)
        project.rank(number)
        project.correct(number, range(32), HALF, HALF)
        project.correct(number, (80, 81, 83), WRONG, WRONG)
    project.measure(4, 0.5)
    choice = read_payoff(project.folder).choice
    assert choice is not None and (choice.chosen, choice.by_chance) == (3 * 24, 3 * 8)
    assert choice.chosen_errors == choice.chance_errors == 0.5


def test_what_rankings_told_outlives_them(project: Project) -> None:
    play(project, HALF, HALF)
    before = read_payoff(project.folder).choice
    for version in ("maskal-r1", "maskal-r2"):
        project.folder.registry.remove(version)
    project.measure(4, 0.5)
    assert read_payoff(project.folder).choice == before is not None


def test_only_the_newest_images_count(project: Project) -> None:
    for number in range(1, 8):
        project.measure(number, 0.5)
        project.rank(number)
        project.correct(number, range(80), WRONG if number < 3 else HALF, HALF)
    project.measure(8, 0.5)
    choice = read_payoff(project.folder).choice
    assert choice is not None and choice.chosen_errors == pytest.approx(0.5)
    assert choice.chosen + choice.by_chance == 4 * 80


def test_a_damaged_ranking_costs_only_itself(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    play(project, HALF, HALF)
    project.folder.registry.ranking_path("maskal-r2").write_text("no JSON\n")
    before = read_payoff(project.folder)
    project.measure(4, 0.5)
    assert read_payoff(project.folder).choice == before.choice
    assert "maskal-r2 is left out of what choosing is worth" in caplog.text


@pytest.mark.parametrize("text", ["{", '{"format": 1}', '{"format": 7}', "[]"])
def test_a_file_that_cannot_be_read_is_made_anew(project: Project, text: str) -> None:
    (project.folder.path / "payoff.json").write_text(text)
    assert project.told() == []
    project.measure(1, 0.5)
    assert '"format": 1' in (project.folder.path / "payoff.json").read_text()


def test_what_a_pre_label_had_wrong_is_a_share_of_the_objects() -> None:
    assert [share_wrong(found) for found in (RIGHT, HALF, WRONG)] == [0.0, 0.5, 1.0]
    blank = Corrections(kept=0, moved=0, relabelled=0, deleted=0, added=0, iou=None)
    assert share_wrong(blank) == 0.0
    missed = Corrections(kept=0, moved=0, relabelled=0, deleted=0, added=3, iou=None)
    assert share_wrong(missed) == 1.0
    moved = Corrections(kept=0, moved=4, relabelled=0, deleted=0, added=0, iou=0.9)
    assert share_wrong(moved) == pytest.approx(0.1), "an outline that was moved a little is nearly right"
    assert share_wrong(Corrections(kept=0, moved=0, relabelled=2, deleted=0, added=0, iou=0.5)) == 1.0
