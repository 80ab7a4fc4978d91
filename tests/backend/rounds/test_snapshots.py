from __future__ import annotations

import pytest

from backend.label_studio.client import Task
from backend.label_studio.labels import parse_label_config
from backend.rounds.snapshots import (
    Entry,
    Snapshot,
    assess_need,
    changed_tasks,
    read_snapshot,
    split_of,
    take_snapshot,
    write_snapshot,
)
from tests.backend.configs import POLYGONS

LABELS = parse_label_config(POLYGONS)


def snapshot(*rows: tuple[int, str], split: str = "train") -> Snapshot:
    return Snapshot(tuple(Entry(task, 10 * task, digest, split) for task, digest in rows))


def test_the_split_never_moves_and_is_about_15_percent() -> None:
    splits = [split_of({}, task, "3.17") for task in range(4000)]
    assert splits == [split_of({}, task, "3.17") for task in range(4000)]
    assert 0.13 < splits.count("val") / 4000 < 0.17
    assert set(splits) == {"train", "val"}
    assert splits != [split_of({}, task, "4.17") for task in range(4000)], "another project, another split"


def test_photos_of_one_group_stay_together_and_the_data_can_say_it_itself() -> None:
    for plant in range(50):
        assert len({split_of({"split_group": f"plant {plant}"}, task, "1.1") for task in range(5)}) == 1
    assert split_of({"split": "test", "split_group": "x"}, 1, "1.1") == "test"
    assert split_of({"split": "nonsense"}, 1, "1.1") in ("train", "val")


@pytest.mark.parametrize("group", [0, "0", 0.0])
def test_a_group_that_is_called_zero_is_a_group(group: object) -> None:
    for uid in ("1.1", "2.1", "3.1"):
        assert len({split_of({"split_group": group}, task, uid) for task in range(40)}) == 1


@pytest.mark.parametrize("group", [None, ""])
def test_an_empty_field_is_no_group(group: object) -> None:
    assert {split_of({"split_group": group}, task, "1.1") for task in range(40)} == {"train", "val"}


def test_skipped_tasks_are_not_annotated_and_reviewed_empty_ones_are() -> None:
    def task(number: int, **annotation: object) -> Task:
        return Task(number, {}, True, [{"id": number, "updated_at": "x", "result": [], **annotation}])

    taken, chosen = take_snapshot([task(2), task(1), task(3, was_cancelled=True)], "1.1", LABELS)
    assert [entry.task for entry in taken.entries] == [1, 2] == sorted(chosen)


def test_new_edited_and_deleted_annotations_are_changes() -> None:
    before, now = snapshot((1, "a"), (2, "b"), (3, "c")), snapshot((1, "a"), (2, "B"), (4, "d"))
    assert changed_tasks(now, before) == 3
    assert changed_tasks(now, None) == 3
    assert changed_tasks(before, before) == 0


@pytest.mark.parametrize(
    ("annotated", "is_due", "missing"), [(29, False, 1), (30, True, 0), (31, True, 0), (0, False, 30)]
)
def test_the_first_round_waits_for_the_initial_set(annotated: int, is_due: bool, missing: int) -> None:
    now = snapshot(*((task, "x") for task in range(annotated)))
    need = assess_need(now, None, initial_datasize=30, pool_size=5)
    assert (need.is_due, need.missing) == (is_due, missing)


def test_later_rounds_wait_for_the_pool() -> None:
    before = snapshot((1, "a"), (2, "b"))
    sizes = {"initial_datasize": 30, "pool_size": 2}
    assert not assess_need(snapshot((1, "a"), (2, "b"), (3, "c")), before, **sizes).is_due
    assert assess_need(snapshot((1, "A"), (2, "b"), (3, "c")), before, **sizes).is_due
    assert assess_need(before, before, **sizes, is_forced=True).is_due


def test_nothing_is_due_without_a_training_image() -> None:
    now = snapshot(*((task, "x") for task in range(40)), split="val")
    need = assess_need(now, None, initial_datasize=30, pool_size=5, is_forced=True)
    assert not need.is_due and "outside of the validation split" in need.reason


def test_a_test_set_that_is_annotated_already_brings_no_first_round_forward() -> None:
    tests = snapshot(*((task, "x") for task in range(100, 140)), split="test").entries
    now = Snapshot((*snapshot(*((task, "x") for task in range(4))).entries, *tests))
    need = assess_need(now, None, initial_datasize=30, pool_size=5)
    assert (need.is_due, need.missing) == (False, 26)
    assert need.reason == "4 of 30 annotated tasks, not counting 40 test images"
    without = assess_need(Snapshot(tests), None, initial_datasize=30, pool_size=5)
    assert (without.is_due, without.missing) == (False, 30)
    assert without.reason == "no annotated task outside of the validation split and the test images yet"


def test_a_snapshot_survives_the_disk_and_its_digest_tells_changes(tmp_path) -> None:
    taken = Snapshot(snapshot((1, "a"), (2, "b")).entries, ("region x is left out",))
    write_snapshot(tmp_path / "snapshot.json", taken)
    assert read_snapshot(tmp_path / "snapshot.json") == taken
    assert taken.digest == snapshot((1, "a"), (2, "b")).digest != snapshot((1, "a"), (2, "c")).digest
