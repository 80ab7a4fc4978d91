from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from backend.errors import BadImage
from backend.label_studio.replaced import Replacement
from backend.project.folder import connect_folder
from backend.rounds.first_queue import FirstTask, write_first_queue
from backend.rounds.folder import Round
from backend.rounds.judging import evaluate_round
from backend.rounds.learning import train_round
from backend.rounds.pictures import thumbnails
from backend.rounds.receipt import note_annotations
from backend.rounds.snapshots import Need
from backend.rounds.standing import has_standing, read_standing, write_standing
from backend.rounds.summary import BINS, FRONT, front_in_words, read_summary, write_summary
from model.files import write_json
from model.rankings import RankedTask
from model.registry import VersionFields
from model.stored_weights import add_version
from tests.backend.fake_label_studio import FakeLabelStudio, place_of
from tests.backend.round_places import Photos, quiet, read_round, region_of, workplace

UID = "1.1700000000"


def ranked(task: int, certainty: float | None = 0.5, split: str = "train", **fields: Any) -> RankedTask:
    return RankedTask(task, certainty, task, certainty or 0.0, split, [region_of(task)], **fields)


class Gone(Photos):
    """Photos of which the second is no longer there."""

    def load(self, value: object, task_id: int) -> Any:
        if task_id == 2:
            raise BadImage("task 2: gone")
        return super().load(value, task_id)


def sum_up(tmp_path: Path, rows: list[RankedTask], images: Photos | None = None):
    folder = connect_folder(tmp_path, UID)
    place = place_of(folder, FakeLabelStudio(UID, 3, 0), images)
    fields = VersionFields(1, ("leaf", "spot"), "fake", {}, {}, None, "", True, "")
    add_version(folder.registry, fields, {"w": torch.zeros(1)})
    folder.registry.set_current("maskal-r1")
    write_summary(place, Round(folder.rounds / "1"), rows, {row.task: {"photo": f"{row.task}.png"} for row in rows})
    return place, read_summary(folder.registry, "maskal-r1")


def test_a_ranking_is_summed_up_with_thumbnails_of_its_front(tmp_path: Path) -> None:
    rows = [ranked(1, 0.04), ranked(2, 0.97), ranked(3, None)] + [ranked(task, 0.99) for task in range(4, 60)]
    _, found = sum_up(tmp_path, rows)
    assert len(found.certainties) == BINS and found.certainties[0] == 1 and sum(found.certainties) == 58
    assert found.without == 1 and len(found.front) == FRONT
    picture = found.front[0].picture
    assert picture.task == 1 and picture.size_hw == (60, 80)
    (drawing,) = picture.drawings
    assert drawing.label == "leaf" and drawing.rings[0][0] == pytest.approx([12.5, 16.67], abs=0.1), "in percent"
    (path,) = thumbnails(tmp_path).glob(f"*/{picture.thumbnail}")
    assert cv2.imread(str(path)).shape[:2] == (60, 80), "a small image is not made larger"


def test_an_image_that_is_gone_is_left_out_of_the_front(tmp_path: Path) -> None:
    _, found = sum_up(tmp_path, [ranked(1), ranked(2), ranked(3)], Gone())
    assert [one.picture.task for one in found.front] == [1, 3]


def test_a_summary_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    place, found = sum_up(tmp_path, [ranked(1)])
    registry = place.folder.registry
    for broken in ({"format": 2}, {"format": 1, "front": 3}, {}):
        registry.write_summary("maskal-r1", dict(broken))
        assert read_summary(registry, "maskal-r1") is None
    (registry.folder / "versions" / "maskal-r1" / "summary.json").unlink()
    assert found is not None and read_summary(registry, "maskal-r1") is None


def test_status_says_why_the_next_tasks_come_but_for_those_annotated_since(tmp_path: Path) -> None:
    rows = [ranked(task, reason=f"reason {task}") for task in (1, 2, 3)]
    place, found = sum_up(tmp_path, rows)
    assert [one.reason for one in found.front] == ["reason 1", "reason 2", "reason 3"]
    assert list(front_in_words(place.folder, {1}, 1)) == ["task 2 comes next: reason 2"]


def test_a_round_keeps_what_its_version_got_wrong_and_how_sure_its_ap_is(tmp_path: Path) -> None:
    place = workplace(tmp_path, train_iterations_base=60, confidence_threshold=0.0)
    current = read_round(place, 1, dict.fromkeys(range(1, 21), "a"), val=8)
    train_round(place, current, quiet)
    version = evaluate_round(place, current, quiet)
    lower, upper = version.metrics["interval"]["mask_ap"]
    assert lower <= version.metrics["mask_ap"] <= upper
    write_summary(place, current, [], {})
    findings = read_summary(place.folder.registry, version.name).findings
    assert findings.images == 8 and findings.classes == ("leaf", "spot")
    objects = [sum(row) for row in findings.confusion[:2]]
    assert objects == [4, 4], "as many as the validation images show"
    wrong = sum(findings.counts.values()) - findings.counts["right"]
    assert bool(findings.worst) == bool(wrong)


def test_a_look_is_written_down_for_those_who_do_not_ask_label_studio(tmp_path: Path) -> None:
    place, _ = sum_up(tmp_path, [ranked(1), ranked(2), ranked(3)])
    client, folder = place.client, place.folder
    write_json(folder.path / "failed_images.json", {"3": {"error": "gone", "tries": 1, "retry_at": 0.0}})
    write_standing(place, client.project(1), Need(False, 1, 19, "1 of 20"), note_annotations(place))
    first = read_standing(folder)
    assert (first.title, first.tasks, first.missing, first.reason) == ("leaves", 3, 19, "1 of 20")
    assert [(one.task, one.reason) for one in first.unreadable] == [(3, "gone")] and first.done == ()
    client.annotate(2)
    write_standing(place, client.project(1), None, note_annotations(place))
    client.annotate(1)
    write_standing(place, client.project(1), None, note_annotations(place))
    assert read_standing(folder).done == (1, 2) and read_standing(folder).effort.unknown_images == 2
    (folder.path / "standing.json").write_text('{"format": 1, "title": "x"}')
    assert has_standing(folder) and read_standing(folder) is None


def test_before_the_first_version_the_chosen_images_are_the_front(tmp_path: Path) -> None:
    folder = connect_folder(tmp_path, UID)
    place = place_of(folder, FakeLabelStudio(UID, 3, 1))
    write_first_queue(folder, [FirstTask(task, task / 10, "train", f"reason {task}") for task in (1, 2, 3)])
    write_standing(place, place.client.project(1), None, ())
    assert [(one.picture.task, one.reason) for one in read_standing(folder).front] == [(2, "reason 2"), (3, "reason 3")]


def test_the_front_shows_the_image_that_took_the_place_of_another(tmp_path: Path) -> None:
    folder = connect_folder(tmp_path, UID)
    place = place_of(folder, FakeLabelStudio(UID, 3, 0))
    write_first_queue(folder, [FirstTask(task, task / 10, "train", "") for task in (1, 2)])
    shown = []
    for _ in range(2):
        write_standing(place, place.client.project(1), None, ())
        shown.append([one.picture.thumbnail for one in read_standing(folder).front])
        place.images.replacements["2.png"] = Replacement("a", 0.0)
    assert shown[0][0] == shown[1][0] and shown[0][1] != shown[1][1]
    assert list(thumbnails(tmp_path).glob(f"*/{shown[1][1]}"))


def test_a_round_without_findings_has_none(tmp_path: Path) -> None:
    _, found = sum_up(tmp_path, [])
    assert found.findings is None and found.front == ()
