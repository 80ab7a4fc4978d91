from __future__ import annotations

from pathlib import Path

import pytest

from backend.care import status
from backend.label_studio.replaced import Replacement
from backend.rounds.evaluation_copies import left_out_in_words, left_out_of_evaluation, note_left_out
from backend.rounds.folder import Round
from backend.rounds.judging import evaluate_round
from backend.rounds.learning import train_round
from model.errors import BadCheckpoint
from tests.backend.round_places import quiet, read_round
from tests.backend.rounds.test_near_copies import SCENES, TASKS, Project, SmallMaker


def learned(project: Project, **splits: str) -> Round:
    """A round that has read tasks 1 to 12, the last three of them for validation."""
    current = read_round(project.place, 1, {task: "a" for task in range(1, TASKS + 1)}, val=3)
    note_left_out(project.place, current, project.open_cache)
    return current


def test_a_validation_image_like_a_training_image_has_no_say_in_its_round(tmp_path: Path) -> None:
    project = Project(tmp_path, annotated=TASKS, train_iterations_base=2)
    project.look()
    current = learned(project)
    assert left_out_of_evaluation(current) == {10: 2, 11: 3, 12: 4}
    train_round(project.place, current, quiet)
    version = evaluate_round(project.place, current, quiet)
    assert version.metrics["mask_ap"] is None and version.metrics["left_out"] == {"10": 2, "11": 3, "12": 4}
    assert [entry.split for entry in (current.snapshot() or pytest.fail()).entries][-3:] == ["val"] * 3, "none moves"
    assert "evaluated without 3 validation images that are near copies of training images: task 10 of task 2" in (
        status._version_line(version, is_rolled_back=False)
    )


def test_validation_images_that_are_alike_keep_their_say(tmp_path: Path) -> None:
    project = Project(tmp_path, annotated=TASKS)
    current = read_round(project.place, 1, {task: "a" for task in (1, 2, 4, 10, 12)}, val=3)
    note_left_out(project.place, current, project.open_cache)
    assert left_out_of_evaluation(current) == {10: 2}, "4 and 12 are like one another alone"
    assert set(project.shots.loaded) == {1, 2, 4, 10, 12}


def test_a_round_without_validation_images_looks_at_nothing(tmp_path: Path) -> None:
    project = Project(tmp_path, annotated=TASKS)
    current = read_round(project.place, 1, dict.fromkeys(range(1, TASKS + 1), "a"))
    note_left_out(project.place, current, project.open_cache)
    assert left_out_of_evaluation(current) == {} and not project.shots.loaded


def test_a_round_goes_on_where_the_weights_that_find_near_copies_are_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def no_weights() -> SmallMaker:
        raise BadCheckpoint("the weights package is not installed")

    project = Project(tmp_path, annotated=TASKS)
    current = read_round(project.place, 1, dict.fromkeys(range(1, TASKS + 1), "a"), val=3)
    note_left_out(project.place, current, no_weights)
    assert left_out_of_evaluation(current) == {}
    assert "near copies are not looked for: the weights package is not installed" in caplog.text


def test_a_round_looks_for_itself_where_the_worker_has_not_yet(tmp_path: Path) -> None:
    project = Project(tmp_path, annotated=TASKS)
    assert left_out_of_evaluation(learned(project)) == {10: 2, 11: 3, 12: 4}
    assert project.pairs() == set(), "open images are to be compared with these yet"


def test_a_validation_image_that_was_replaced_since_it_was_compared_is_looked_at_again(tmp_path: Path) -> None:
    project = Project(tmp_path, annotated=TASKS)
    project.look()
    project.shots.shows[10] = 5 + SCENES
    project.shots.replacements["10.png"] = Replacement("a", 0.0)
    assert left_out_of_evaluation(learned(project)) == {10: 5, 11: 3, 12: 4}


def test_what_a_round_has_decided_stays_so_when_it_is_resumed(tmp_path: Path) -> None:
    project = Project(tmp_path, annotated=TASKS)
    current = learned(project)
    project.shots.broken = set(range(TASKS + 1))
    note_left_out(project.place, current, project.open_cache)
    assert len(left_out_of_evaluation(current)) == 3


def test_a_round_of_before_leaves_nothing_out(tmp_path: Path) -> None:
    keeping = Project(tmp_path, annotated=TASKS, near_copies="keep")
    assert left_out_of_evaluation(learned(keeping)) == {} and not keeping.shots.loaded
    assert left_out_in_words({}) == ""
    assert left_out_in_words({"7": 1}).startswith("; evaluated without 1 validation image that is a near copy of")
    assert left_out_in_words(dict.fromkeys("123", 1)).endswith("task 3 of task 1")
    assert left_out_in_words(dict.fromkeys("12345", 1)).endswith("task 3 of task 1 and 2 more")
