from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from backend.rounds.object_parts import FOLDER, OLD_FILE, TASKS, ObjectParts, Row

WIDTH = 3


@pytest.fixture
def parts(tmp_path: Path) -> ObjectParts:
    return ObjectParts(tmp_path, "weights")


def features_of(task: int) -> np.ndarray:
    """One object, or two of odd tasks."""
    return np.full((1 + task % 2, WIDTH), task, np.float32)


def add(parts: ObjectParts, tasks: range, version: str = "maskal-r1") -> None:
    with parts.writer(version) as writer:
        for task in tasks:
            writer.add(task, f"image {task}", features_of(task))


def files(parts: ObjectParts) -> list[Path]:
    return sorted(parts.folder.iterdir())


def test_what_is_added_comes_back(parts: ObjectParts) -> None:
    add(parts, range(5))
    rows = parts.rows()
    assert [(row.task, row.image, row.version) for row in rows] == [(i, f"image {i}", "maskal-r1") for i in range(5)]
    tasks, features, starts = parts.table([row for row in rows if row.task in (1, 4)])
    assert tasks == [1, 4] and starts.tolist() == [0, 2, 3] and features.dtype == np.float16
    assert features.tolist() == [[1] * WIDTH, [1] * WIDTH, [4] * WIDTH]
    assert files(parts) == sorted({row.part for row in rows}), "what is compared lies in a file without a name"


def test_nothing_is_no_table(parts: ObjectParts) -> None:
    tasks, features, starts = parts.table(parts.rows())
    assert tasks == [] and len(features) == 0 and starts.tolist() == [0]


def test_a_kill_loses_at_most_one_part(parts: ObjectParts) -> None:
    with parts.writer("") as writer:
        for task in range(2 * TASKS + 30):
            writer.add(task, "", features_of(task))
        assert len(files(parts)) == 2 and len(parts.rows()) == 2 * TASKS, "what a kill in this moment leaves"
    assert len(files(parts)) == 3 and len(parts.rows()) == 2 * TASKS + 30


def test_an_error_loses_nothing(parts: ObjectParts) -> None:
    with pytest.raises(KeyboardInterrupt), parts.writer("") as writer:
        writer.add(1, "", features_of(1))
        raise KeyboardInterrupt
    assert [row.task for row in parts.rows()] == [1]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_torn_part_goes_with_a_warning_and_no_other(
    parts: ObjectParts, share: float, caplog: pytest.LogCaptureFixture
) -> None:
    add(parts, range(3))
    (torn,) = files(parts)
    add(parts, range(3, 6))
    content = torn.read_bytes()
    torn.write_bytes(content[: int(share * len(content))])
    with caplog.at_level(logging.WARNING):
        assert [row.task for row in parts.rows()] == [3, 4, 5]
    assert f"{torn.name} cannot be read" in caplog.text and not torn.exists()


def test_a_part_of_which_a_byte_is_wrong_is_not_believed(parts: ObjectParts) -> None:
    add(parts, range(50))
    (part,) = files(parts)
    content = bytearray(part.read_bytes())
    content[content.index(np.full(WIDTH, 40, np.float16).tobytes())] ^= 1
    part.write_bytes(content)
    assert parts.rows() == []


def test_what_another_backbone_saw_and_the_file_of_before_go(parts: ObjectParts, tmp_path: Path) -> None:
    add(parts, range(3))
    (tmp_path / OLD_FILE).write_bytes(b"")
    assert ObjectParts(tmp_path, "other").rows() == [] and list(tmp_path.iterdir()) == [tmp_path / FOLDER]
    assert files(parts) == []


def kept(parts: ObjectParts, tasks: range) -> list[Row]:
    return [row for row in parts.rows() if row.task in tasks]


def test_parts_with_few_rows_left_are_rewritten_and_full_ones_are_not(parts: ObjectParts) -> None:
    add(parts, range(3 * TASKS))
    full = {row.part for row in parts.rows() if row.task < TASKS}
    left = range(0, TASKS + 10)
    parts.tidy(parts.rows(), kept(parts, left))
    assert len(files(parts)) == 2 and full <= set(files(parts))
    tasks, features, starts = parts.table(parts.rows())
    assert sorted(tasks) == list(left)
    for task, start in zip(tasks, starts, strict=False):
        assert features[start].tolist() == [task] * WIDTH


def test_a_part_without_any_row_left_goes(parts: ObjectParts) -> None:
    add(parts, range(3))
    parts.tidy(parts.rows(), [])
    assert files(parts) == []


def test_small_parts_of_one_version_become_one_and_a_single_one_stays(parts: ObjectParts) -> None:
    add(parts, range(3)), add(parts, range(3, 5)), add(parts, range(5, 7), "maskal-r2")
    (single,) = {row.part for row in parts.rows() if row.version == "maskal-r2"}
    rows = parts.rows()
    parts.tidy(rows, rows)
    assert len(files(parts)) == 2 and single in files(parts)
    found = {row.task: row for row in parts.rows()}
    assert sorted(found) == list(range(7)) and {found[4].version, found[5].version} == {"maskal-r1", "maskal-r2"}
    before = files(parts)
    parts.tidy(parts.rows(), parts.rows())
    assert files(parts) == before, "nothing is left to tidy"
