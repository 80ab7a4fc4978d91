import logging
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from model.errors import BadVersion
from model.rankings import RankedTask, RowFinder, StoredRows, _Index, append_rows, read_rows, rows_to_text, write_rows


def row(task, certainty=0.5):
    return RankedTask(task, certainty, place=task, score=0.1 * task, split="train", regions=[{"id": "a", "value": {}}])


def test_rows_come_back_in_order(tmp_path):
    path = tmp_path / "ranking.jsonl"
    rows = (row(3), row(1, certainty=None), row(2))
    path.write_text(rows_to_text(rows))
    assert read_rows(path) == rows


def test_no_file_is_no_rows(tmp_path):
    assert read_rows(tmp_path / "ranking.jsonl") == ()


def test_an_unfinished_last_line_is_left_out_with_a_warning(tmp_path, caplog):
    path = tmp_path / "ranking.jsonl"
    text = rows_to_text([row(1), row(2)])
    for cut in (1, 10, 40):
        path.write_text(text[:-cut])
        with caplog.at_level(logging.WARNING):
            assert read_rows(path) == (row(1),)
        assert "unfinished last line" in caplog.text
        caplog.clear()


def test_stored_rows_are_those_of_the_file_read_one_by_one(tmp_path):
    path = tmp_path / "ranking.jsonl"
    rows = (row(3), row(1, certainty=None), row(2))
    write_rows(path, rows)
    with StoredRows(path) as stored, StoredRows(path, only={1, 2}) as some, StoredRows(tmp_path / "none") as none:
        assert tuple(stored) == tuple(stored[:]) == rows == read_rows(path)
        assert (len(stored), stored[1], stored[-1]) == (3, rows[1], rows[2])
        assert [r.task for r in some] == [1, 2] and some[0].regions
        assert len(none) == 0
        write_rows(path, [row(9)])
        assert stored[0] == rows[0], "a reader stays with the file that it opened"


def test_stored_rows_leave_an_unfinished_last_line_out(tmp_path, caplog):
    path = tmp_path / "ranking.jsonl"
    path.write_text(rows_to_text([row(1), row(2)])[:-10])
    with caplog.at_level(logging.WARNING), StoredRows(path) as stored:
        assert [r.task for r in stored] == [1]
    assert "unfinished last line" in caplog.text


def test_a_file_stays_as_it_was_where_its_new_rows_cannot_all_be_made(tmp_path):
    path = tmp_path / "ranking.jsonl"
    write_rows(path, [row(1)])
    with pytest.raises(ZeroDivisionError):
        write_rows(path, (row(1 // number) for number in (1, 0)))
    assert read_rows(path) == (row(1),)
    assert [file.name for file in tmp_path.iterdir()] == ["ranking.jsonl"]


def test_appending_after_a_crash_loses_the_torn_line_only(tmp_path):
    path = tmp_path / "ranking.jsonl"
    path.write_text(rows_to_text([row(1), row(2)])[:-5])
    append_rows(path, [row(3)])
    append_rows(path, [row(4), row(5)])
    assert read_rows(path) == (row(1), row(3), row(4), row(5))


@pytest.mark.parametrize("line", ["{", "[]", '{"task": 1}', ""])
def test_a_broken_line_inside_is_named(tmp_path, line):
    path = tmp_path / "ranking.jsonl"
    path.write_text(rows_to_text([row(1)]) + line + "\n" + rows_to_text([row(2)]))
    with pytest.raises(BadVersion, match=r"line 2 of .*ranking\.jsonl"):
        read_rows(path)


def test_scores_are_finite():
    with pytest.raises(ValueError, match="a score must be finite, got nan"):
        RankedTask(1, None, 0, float("nan"), "val", [])
    with pytest.raises(ValueError, match="a certainty must be finite"):
        RankedTask(1, float("nan"), 0, 0.0, "val", [])


@pytest.fixture
def lines_read(monkeypatch):
    """Lengths of the lines that finders have read so far."""
    lengths = []
    note = _Index._note

    def noted(index, line):
        lengths.append(len(line))
        note(index, line)

    monkeypatch.setattr(_Index, "_note", noted)
    return lengths


def test_the_last_row_of_a_task_is_found(tmp_path):
    path = tmp_path / "ranking.jsonl"
    write_rows(path, [row(3), row(1), row(12), row(3, certainty=0.9)])
    finder = RowFinder()
    assert [finder.find(path, task) for task in (1, 12, 3)] == [row(1), row(12), row(3, certainty=0.9)]
    assert finder.find(path, 2) is None
    assert finder.find(tmp_path / "none.jsonl", 1) is None


def test_a_file_without_rows_has_none(tmp_path):
    path = tmp_path / "ranking.jsonl"
    path.write_text("")
    finder = RowFinder()
    assert finder.find(path, 1) is None
    append_rows(path, [row(1)])
    assert finder.find(path, 1) == row(1)


def test_only_what_was_added_is_read_again(tmp_path, lines_read):
    path = tmp_path / "ranking.jsonl"
    write_rows(path, [row(1), row(2)])
    finder = RowFinder()
    assert finder.find(path, 1) == row(1)
    append_rows(path, [row(3), row(1, certainty=0.9)])
    assert [finder.find(path, task) for task in (1, 2, 3)] == [row(1, certainty=0.9), row(2), row(3)]
    assert lines_read == [len(rows_to_text([each])) for each in (row(1), row(2), row(3), row(1))]


def test_long_rows_are_found_too(tmp_path):
    path = tmp_path / "ranking.jsonl"
    long = [replace(row(task), regions=[{"id": "x" * 300_000}]) for task in range(4)]
    write_rows(path, long[:2])
    finder = RowFinder()
    for added in long[2:]:
        assert [finder.find(path, each) for each in (0, 1)] == long[:2]
        append_rows(path, [added])
        assert finder.find(path, added.task) == added


def test_a_file_in_its_place_is_read_anew(tmp_path):
    path = tmp_path / "ranking.jsonl"
    finder = RowFinder()
    for certainty in (0.25, 0.75):  # of the same length
        write_rows(path, [row(1, certainty), row(2, certainty)])
        assert finder.find(path, 2) == row(2, certainty)
    write_rows(path, [row(2)])
    assert (finder.find(path, 1), finder.find(path, 2)) == (None, row(2))
    path.unlink()
    assert finder.find(path, 2) is None


def test_a_file_that_was_written_over_is_read_anew(tmp_path):
    """As where a new file got the inode of one that was removed."""
    path = tmp_path / "ranking.jsonl"
    write_rows(path, [row(1), row(2)])
    finder, inode = RowFinder(), path.stat().st_ino
    assert finder.find(path, 2) == row(2)
    path.write_text(rows_to_text([row(2), row(5), row(7, certainty=0.125)]))
    assert path.stat().st_ino == inode
    assert [finder.find(path, task) for task in (1, 2, 7)] == [None, row(2), row(7, certainty=0.125)]
    path.write_text(rows_to_text([row(7)]))
    assert [finder.find(path, task) for task in (2, 7)] == [None, row(7)]


def test_an_unfinished_last_line_is_not_found_until_it_is_whole(tmp_path):
    path = tmp_path / "ranking.jsonl"
    text = rows_to_text([row(1), row(2)])
    finder = RowFinder()
    path.write_text(text[:-10])
    assert (finder.find(path, 1), finder.find(path, 2)) == (row(1), None)
    with path.open("a") as file:
        file.write(text[-10:])
    assert finder.find(path, 2) == row(2)
    os.truncate(path, len(text) - 10)
    assert finder.find(path, 2) is None
    append_rows(path, [row(4)])
    assert [finder.find(path, task) for task in (1, 2, 4)] == [row(1), None, row(4)]


def test_a_broken_row_is_named_where_it_is_asked_for(tmp_path):
    path = tmp_path / "ranking.jsonl"
    path.write_text(rows_to_text([row(1)]) + 'no row\n{"task": 2, \n{"task": 1' + 30 * "0" + ", \n")
    finder = RowFinder()
    assert finder.find(path, 1) == row(1)
    with pytest.raises(BadVersion, match=r"line 3 of .*ranking\.jsonl"):
        finder.find(path, 2)


def test_the_files_asked_for_last_are_kept(tmp_path, lines_read):
    paths = [tmp_path / f"{number}.jsonl" for number in range(3)]
    for path in paths:
        write_rows(path, [row(1)])
    finder = RowFinder(kept=2)
    for path in (*paths, paths[1], paths[2]):
        assert finder.find(path, 1) == row(1)
    assert len(lines_read) == 3
    assert finder.find(paths[0], 1) == row(1)
    assert len(lines_read) == 4


def test_threads_share_a_finder_while_rows_are_added(tmp_path):
    path = tmp_path / "ranking.jsonl"
    write_rows(path, [row(0)])
    finder = RowFinder(kept=1)
    other = Path(shutil.copy(path, tmp_path / "other.jsonl"))

    def look(task):
        finder.find(other, 0)
        return all(finder.find(path, each) == row(each) for each in range(task))

    with ThreadPoolExecutor(8) as pool:
        looks = []
        for task in range(1, 40):
            append_rows(path, [row(task)])
            looks.append(pool.submit(look, task))
        assert all(each.result() for each in looks)
