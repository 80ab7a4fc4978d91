"""Images whose tasks' data say `split: test`: measured on, and without a say in anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from backend.care import status
from backend.project.workplace import Workplace
from backend.rounds.evaluation_copies import left_out_of_evaluation, note_left_out
from backend.rounds.folder import Round
from backend.rounds.history import OnTest, read_history
from backend.rounds.judging import evaluate_round
from backend.rounds.learning import train_round
from backend.rounds.steps import _moment
from model.files import read_json
from model.registry import Version
from model.stored_weights import load_weights
from tests.backend.configs import POLYGONS
from tests.backend.round_places import quiet, read_round, region_of, workplace
from tests.backend.rounds.test_near_copies import TASKS, Project

TRAIN, VAL, TEST = 8, 12, 6


def make(data_dir: Path, test: int, **settings: Any) -> tuple[Workplace, Round]:
    """A round that has trained; the outline of each third test image lies where there is nothing."""
    place = workplace(data_dir, train_iterations_base=40, eval_period=10, **settings)
    current = read_round(place, 1, dict.fromkeys(range(1, TRAIN + VAL + test + 1), "a"), val=VAL, test=test)
    rows = [
        replace(row, regions=[region_of(row.task + (row.split == "test" and row.task % 3 == 0))])
        for row in current.annotated()
    ]
    current.write_annotated(rows, POLYGONS)
    train_round(place, current, quiet)
    return place, current


def without_times(version: Version) -> dict[str, Any]:
    facts = {key: value for key, value in version.metrics.items() if key not in ("test", "training")}
    training = {key: value for key, value in version.metrics["training"].items() if "seconds" not in key}
    return {**facts, "training": training, "promoted": version.promoted, "reason": version.reason}


def test_test_images_are_measured_on_and_change_nothing_else(tmp_path: Path) -> None:
    found = []
    for test in (0, TEST):
        place, current = make(tmp_path / str(test), test)
        evaluated = evaluate_round(place, current, quiet)
        found.append((place, current, evaluated, load_weights(place.folder.registry, evaluated.name)[0]))
    (plain, _, without, weights), (place, current, version, same) = found
    assert "test" not in without.metrics and "test" not in "".join(status._version_lines(plain.folder))
    assert [measured.test for measured in read_history(plain.folder).versions] == [None]
    assert without_times(version) == without_times(without)
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    assert read_json(current.path / "training.json")["images"] == TRAIN
    on_test = version.metrics["test"]
    assert on_test["images"] == TEST and 0 < on_test["mask_ap"] < version.metrics["mask_ap"]
    assert on_test.keys() == {*place.folder.registry.get("maskal-r1").metrics["test"]} > {"per_class", "interval"}
    assert read_json(current.path / "findings.json")["images"] == VAL, "nobody is shown what they look like"


def test_a_round_killed_at_its_test_images_measures_them_when_it_goes_on(tmp_path: Path) -> None:
    class Killed(BaseException):
        """The process is gone."""

    def report(step: str, share: float, **details: Any) -> None:
        told.append(share)
        if share > (VAL + 2) / (VAL + TEST):
            raise Killed

    told: list[float] = []
    place, current = make(tmp_path, TEST)
    with pytest.raises(Killed):
        evaluate_round(place, current, report)
    assert told == [pytest.approx(n / (VAL + TEST)) for n in range(1, VAL + 4)]
    assert place.folder.registry.names() == () and current.weights.exists()
    assert evaluate_round(place, Round(current.path), quiet).metrics["test"]["images"] == TEST


def test_status_and_history_tell_what_was_measured_on_test_images(tmp_path: Path) -> None:
    place, current = make(tmp_path, TEST)
    version = evaluate_round(place, current, quiet)
    ap, interval = version.metrics["test"]["mask_ap"], version.metrics["test"]["interval"]["mask_ap"]
    told = list(status._version_lines(place.folder))
    assert f"mask AP {version.metrics['mask_ap']:.3f}, mask AP {ap:.3f} on 6 test images, promoted, " in told[0]
    assert told[1:] == ["  test images have no say in anything: versions are only measured on them"]
    [measured] = read_history(place.folder).versions
    assert measured.test == OnTest(TEST, ap, tuple(interval))


@pytest.mark.parametrize(("images", "shown"), [(1, "nothing to find on 1 test image"), (0, "no validation images, ")])
def test_test_images_on_which_nothing_can_be_measured_are_told_so(images: int, shown: str) -> None:
    metrics = {"mask_ap": None, "test": {"mask_ap": None, "images": images, "left_out": {} if images else {"9": 1}}}
    version = Version(1, ("leaf",), "fake", {}, metrics, None, "", True, "first version", "", "")
    line = status._version_line(version, is_rolled_back=False)
    assert shown in line
    assert ("evaluated without 1 test image that is a near copy of training images: task 9 of task 1" in line) == (
        not images
    )


def test_a_test_image_like_a_training_image_is_left_out_as_a_validation_image_is(tmp_path: Path) -> None:
    project = Project(tmp_path, annotated=TASKS, train_iterations_base=2)
    current = read_round(project.place, 1, dict.fromkeys(range(1, TASKS + 1), "a"), val=1, test=2)
    note_left_out(project.place, current, project.open_cache)
    assert left_out_of_evaluation(current) == {10: 2, 11: 3, 12: 4}
    train_round(project.place, current, quiet)
    metrics = evaluate_round(project.place, current, quiet).metrics
    assert (metrics["left_out"], metrics["test"]["left_out"]) == ({"10": 2}, {"11": 3, "12": 4})
    assert (metrics["test"]["images"], metrics["test"]["mask_ap"]) == (0, None)


def test_a_round_with_test_images_alone_looks_for_their_copies_too(tmp_path: Path) -> None:
    project = Project(tmp_path, annotated=TASKS)
    current = read_round(project.place, 1, dict.fromkeys(range(1, TASKS + 1), "a"), test=3)
    note_left_out(project.place, current, project.open_cache)
    assert left_out_of_evaluation(current) == {10: 2, 11: 3, 12: 4}


def test_test_images_that_do_not_count_take_nothing_from_the_validation_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.rounds.task_queue.ENOUGH_VALIDATION", 2)
    monkeypatch.setattr("backend.rounds.steps.known_objects", lambda *args: None)
    project = Project(tmp_path, annotated=TASKS)
    current = read_round(project.place, 1, dict.fromkeys((1, 2, 3, 5, 6, 10, 11), "a"), val=2, test=2)
    note_left_out(project.place, current, project.open_cache)
    snapshot = current.snapshot()
    assert snapshot is not None and left_out_of_evaluation(current) == {10: 2, 11: 3}
    assert _moment(project.place, current, snapshot, None).hold_out_last  # type: ignore[arg-type]
