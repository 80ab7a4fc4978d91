import logging

import pytest

from model.errors import BadVersion
from model.rankings import RankedTask, StoredRows, append_rows, read_rows, rows_to_text, write_rows


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
