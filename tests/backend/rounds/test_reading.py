"""What a round reads: which annotated images it learns from, and what becomes of the others."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from label_studio_sdk.converter import brush

from backend.care.status import _left_out_lines
from backend.errors import BadImage, NothingToLearn
from backend.label_studio.labels import parse_label_config
from backend.label_studio.replaced import Replacement
from backend.project.config import ProjectConfig
from backend.project.folder import ProjectFolder, connect_folder
from backend.rounds import steps
from backend.rounds.folder import REFUSED, STATES, AnnotatedImage, Round, start_round, unfinished
from backend.rounds.learning import train_round
from backend.rounds.need import need_of
from backend.rounds.reading import read, read_snapshot_of
from backend.rounds.snapshots import Entry, Snapshot, write_snapshot
from model.files import read_json
from tests.backend.configs import POLYGONS
from tests.backend.fake_label_studio import FakeLabelStudio, place_of
from tests.backend.round_places import FakeImages, Photos, quiet

CONFIG = {"engine": "fake", "learning_rate": 0.05, "train_iterations_base": 20, "mcd_iterations": 3}
VECTOR = {"id": "v", "type": "vectorlabels", "from_name": "gone", "value": {"vectorlabels": ["leaf"]}}
WITH_BRUSH = POLYGONS.replace(
    "</View>", '<BrushLabels name="b" toName="image"><Label value="leaf"/></BrushLabels></View>'
)
SMALL = brush.mask2rle(np.full((6, 8), 255, np.uint8))
OTHER_SIZE = {"id": "b", "type": "brushlabels", "from_name": "b", "value": {"rle": SMALL, "brushlabels": ["leaf"]}}


class NoPhotos(FakeImages):
    """A bucket that is gone."""

    def load(self, value: object, task_id: int) -> np.ndarray:
        raise BadImage(f"the server answered 403 for the image of task {task_id}")


class DarkPhotos(FakeImages):
    """Photos of 12 bits that were saved with 16, as `Images` gives them."""

    def __init__(self, brightest: int) -> None:
        self.brightest = brightest

    def load(self, value: object, task_id: int) -> np.ndarray:
        return np.full((60, 80, 3), self.brightest, np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> ProjectFolder:
    folder = connect_folder(tmp_path, "1.1")
    folder.store_config(ProjectConfig.model_validate({**CONFIG, "initial_datasize": 8, "pool_size": 3}))
    return folder


def learned(current: Round) -> list[int]:
    return [row.task for row in current.annotated()]


def test_an_image_with_a_region_that_is_not_understood_is_neither_learned_nor_counted(folder: ProjectFolder) -> None:
    client = FakeLabelStudio(folder.uid, 12, 8)
    client.annotate(3, VECTOR)
    place = place_of(folder, client)
    need = need_of(place, client.project(1), in_full=True)
    assert (need.is_due, need.missing) == (False, 1)
    assert need.reason == "7 of 8 annotated tasks; 1 annotated task does not count"
    client.annotate(9)
    assert need_of(place, client.project(1), in_full=True).is_due
    current = start_round(folder, 0)
    read(place, current, quiet)
    snapshot = current.snapshot()
    assert learned(current) == [1, 2, 4, 5, 6, 7, 8, 9] == [entry.task for entry in snapshot.entries]
    (one,) = snapshot.left_out
    assert one.task == 3 and one.reasons[0].startswith("region v of annotation 3 is left out: ")


def test_new_annotations_that_cannot_be_read_bring_no_round(folder: ProjectFolder) -> None:
    client = FakeLabelStudio(folder.uid, 16, 8)
    place = place_of(folder, client)
    steps.run(place, start_round(folder, 0), quiet)
    for task in (9, 10, 11):
        client.annotate(task, VECTOR)
    assert not need_of(place, client.project(1), in_full=True).is_due
    for task in (9, 10, 11):
        client.annotate(task)
    assert need_of(place, client.project(1), in_full=True).is_due


def test_masks_that_do_not_fit_are_left_out_until_they_are_drawn_again_or_the_config_changes(
    folder: ProjectFolder,
) -> None:
    client = FakeLabelStudio(folder.uid, 12, 9)
    client.annotate(2, OTHER_SIZE)
    place = replace(place_of(folder, client), label_config=WITH_BRUSH, labels=parse_label_config(WITH_BRUSH))
    assert not read_snapshot_of(place)[0].left_out, "only the image tells"
    current = start_round(folder, 0)
    read(place, current, quiet)
    assert 2 not in learned(current) and [one.task for one in current.snapshot().left_out] == [2]
    assert [one.task for one in read_snapshot_of(place)[0].left_out] == [2], "it is remembered"
    assert not read_snapshot_of(replace(place, label_config=WITH_BRUSH + " "))[0].left_out
    client.annotate(2)
    assert not read_snapshot_of(place)[0].left_out


def test_masks_that_do_not_fit_count_for_no_round(folder: ProjectFolder) -> None:
    client = FakeLabelStudio(folder.uid, 12, 8)
    client.annotate(2, OTHER_SIZE)
    place = replace(place_of(folder, client), label_config=WITH_BRUSH, labels=parse_label_config(WITH_BRUSH))
    assert need_of(place, client.project(1), in_full=True).is_due, "only the image tells"
    with pytest.raises(NothingToLearn, match="7 of 8 annotated tasks; 1 annotated task does not count: region b of"):
        read(place, start_round(folder, 0), quiet)
    forced = start_round(folder, 0, is_forced=True)
    read(place, forced, quiet)
    assert len(learned(forced)) == 7, "somebody asked for it"


def at(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def test_what_was_annotated_before_its_image_was_replaced_does_not_count_until_it_is_updated(
    folder: ProjectFolder,
) -> None:
    client = FakeLabelStudio(folder.uid, 12, 9)
    place = place_of(folder, client)
    place.images.replacements |= {f"{task}.png": Replacement("a", at("2026-01-01T00:00:05+00:00")) for task in (2, 7)}
    (known,) = read_snapshot_of(place)[0].left_out
    assert known.task == 2 and "annotation 2 was made before its image was replaced" in known.reasons[0], "7 came after"
    current = start_round(folder, 0)
    read(place, current, quiet)
    assert 2 not in learned(current) and 7 in learned(current) and current.snapshot().left_out == (known,)
    assert "task 2 does not count: annotation 2 was made before" in next(_left_out_lines(folder, current.snapshot()))
    client.annotate(2)  # as it was, a point was moved and back
    assert not read_snapshot_of(place)[0].left_out
    read(place, current, quiet)
    assert 2 in learned(current)


def test_an_image_that_is_seen_to_be_another_one_as_a_round_reads_it_is_left_out(folder: ProjectFolder) -> None:
    class Renewed(Photos):
        def load(self, value: object, task_id: int) -> np.ndarray:
            self.replacements["2.png"] = Replacement("a", time.time())
            return super().load(value, task_id)

    place = place_of(folder, FakeLabelStudio(folder.uid, 12, 9), Renewed())
    current = start_round(folder, 0)
    read(place, current, quiet)
    assert 2 not in learned(current) and [one.task for one in current.snapshot().left_out] == [2]
    assert [entry.task for entry in current.snapshot().entries] == learned(current)


def test_a_round_that_was_cancelled_before_it_looked_forgets_nothing(folder: ProjectFolder) -> None:
    client = FakeLabelStudio(folder.uid, 12, 9)
    client.annotate(2, OTHER_SIZE)
    place = replace(place_of(folder, client), label_config=WITH_BRUSH, labels=parse_label_config(WITH_BRUSH))
    read(place, start_round(folder, 0), quiet)
    cancelled = start_round(folder, 0)
    write_snapshot(cancelled.path / "snapshot.json", read_snapshot_of(place)[0])
    cancelled.cancel()
    assert [one.task for one in read_snapshot_of(place)[0].left_out] == [2]


def test_a_round_of_which_all_was_deleted_says_so(folder: ProjectFolder) -> None:
    with pytest.raises(NothingToLearn, match="nothing outside of the validation split is annotated any more"):
        read(place_of(folder, FakeLabelStudio(folder.uid, 3, 0)), start_round(folder, 0), quiet)


def test_what_an_older_release_learned_from_is_named_and_corrected(folder: ProjectFolder) -> None:
    client = FakeLabelStudio(folder.uid, 16, 8)
    client.annotate(2, VECTOR)
    place = place_of(folder, client)
    first = start_round(folder, 0)
    now, _ = read_snapshot_of(place)
    (left,) = now.left_out
    taken = Entry(left.task, left.annotation, left.digest, "train")
    as_before = replace(now, entries=tuple(sorted((*now.entries, taken), key=lambda e: e.task)), left_out=())
    rows = [
        AnnotatedImage(
            e.task, f"{e.task}.png", (60, 80), "train", e.annotation, client.annotations[e.task][0]["result"]
        )
        for e in as_before.entries
    ]
    assert len(rows) == 8
    first.write_annotated(rows, POLYGONS)
    write_snapshot(first.path / "snapshot.json", as_before)
    first.state.state = "read"
    first.save()
    train_round(place, first, quiet)
    facts = read_json(first.path / "training.json")
    assert facts["images"] == 7, "a round that the older release began does not learn from it any more"
    first.state.state = "published"
    first.save()
    now, _ = read_snapshot_of(place)
    (line,) = _left_out_lines(folder, now)
    assert "task 2 does not count: region v of annotation 2" in line
    assert line.endswith("maskal-r1 learned from it as if nothing were missing, the next round corrects that")
    for task in (9, 10):
        client.annotate(task)
    assert need_of(place, client.project(1), in_full=True).is_due, "it counts as changed, with the two new ones"


def test_a_round_keeps_what_each_image_belongs_to(folder: ProjectFolder) -> None:
    client = FakeLabelStudio(folder.uid, 12, 8)
    of_tasks = client.annotated_tasks
    client.annotated_tasks = lambda project_id: (  # type: ignore[method-assign]
        replace(task, data={**task.data, "split_group": 0} if task.id < 4 else task.data)
        for task in of_tasks(project_id)
    )
    current = start_round(folder, 0, is_forced=True)
    read(place_of(folder, client), current, quiet)
    assert {row.task: row.group for row in current.annotated() if row.task < 6} == {
        **{1: "0", 2: "0", 3: "0"},
        **{4: "4", 5: "5"},
    }


def test_a_split_that_there_is_not_is_told(folder: ProjectFolder) -> None:
    client = FakeLabelStudio(folder.uid, 12, 8)
    of_tasks, splits = client.annotated_tasks, {2: "valid", 3: "Test", 4: "test", 5: "", 6: None}
    client.annotated_tasks = lambda project_id: (  # type: ignore[method-assign]
        replace(task, data={**task.data, "split": splits.get(task.id)}) for task in of_tasks(project_id)
    )
    current = start_round(folder, 0, is_forced=True)
    read(place_of(folder, client), current, quiet)
    (line,) = read_json(current.path / "snapshot.json")["problems"]
    assert line.startswith("2 annotated tasks, such as 2, have the split 'Test' or 'valid', wanted one of train")


def test_test_images_that_were_learned_from_before_are_told(folder: ProjectFolder) -> None:
    client, notes = FakeLabelStudio(folder.uid, 12, 8), []
    of_tasks, splits = client.annotated_tasks, dict[int, str]()
    client.annotated_tasks = lambda project_id: (  # type: ignore[method-assign]
        replace(task, data={**task.data, "split": splits.get(task.id, "train")}) for task in of_tasks(project_id)
    )
    for made_tests, ends_as in (([2], REFUSED), ([3], STATES[-1]), ([4, 5], STATES[-1])):
        splits |= dict.fromkeys(made_tests, "test")
        current = start_round(folder, 0, is_forced=True)
        read(place_of(folder, client), current, quiet)
        notes.append(read_json(current.path / "snapshot.json")["problems"])
        current.state.state = ends_as
        current.save()
    assert notes[:2] == [[], []], "what was refused is no version's parent"
    (line,) = notes[2]
    assert line.startswith("learned from before they became test images: task 4, 5; that flatters")
    cold = replace(place_of(folder, client), config=folder.config().model_copy(update={"warm_start": False}))
    read(cold, current, quiet)
    assert read_json(current.path / "snapshot.json")["problems"] == []


def test_a_round_that_can_read_no_image_says_so_waits_and_goes_on(folder: ProjectFolder) -> None:
    client = FakeLabelStudio(folder.uid, 12, 8)
    current = start_round(folder, 0)
    with pytest.raises(NothingToLearn) as caught:
        steps.run(place_of(folder, client, NoPhotos()), current, quiet)
    assert "annotation 1 is not trained on: the server answered 403 for the image of task 1" in str(caught.value)
    assert "and 3 more; the round goes on by itself once they can be read" in str(caught.value)
    waited = []
    for _ in range(6):
        current.note_failure(caught.value)
        waited.append(round(current.state.retry_at - time.time()))
    assert waited == [60, 120, 240, 480, 900, 900]
    waiting = unfinished(folder)
    assert waiting is not None and (waiting.state.state, waiting.state.attempts) == ("started", 0)
    steps.run(place_of(folder, client, Photos()), waiting, quiet)
    assert waiting.state.state == "published" and waiting.state.error is None


def test_a_snapshot_with_what_was_left_out_comes_back(tmp_path: Path, folder: ProjectFolder) -> None:
    client = FakeLabelStudio(folder.uid, 4, 3)
    client.annotate(1, VECTOR)
    current = start_round(folder, 0)
    snapshot, _ = read_snapshot_of(place_of(folder, client))
    write_snapshot(current.path / "snapshot.json", snapshot)
    assert current.snapshot() == snapshot and isinstance(snapshot, Snapshot) and len(snapshot.left_out) == 1


@pytest.mark.parametrize(("brightest", "is_told"), [(15, True), (16, False)])
def test_a_set_of_nearly_black_images_is_told(folder: ProjectFolder, brightest: int, is_told: bool) -> None:
    place = place_of(folder, FakeLabelStudio(folder.uid, 12, 8), DarkPhotos(brightest))
    current = start_round(folder, 0)
    read(place, current, quiet)
    told = [line for line in read_json(current.path / "snapshot.json")["problems"] if "nearly black" in line]
    assert bool(told) == is_told
    if told:
        assert told[0].startswith("all 8 annotated images are nearly black (no pixel above 15 of 255)")
