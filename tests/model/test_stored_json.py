from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from model.errors import DamagedFile, NewerFormat
from model.stored_json import as_kind, line_as, read_as


@dataclass(frozen=True)
class Row:
    task: int
    score: float
    size_hw: tuple[int, int] = (1, 1)


@pytest.mark.parametrize(
    ("kind", "text", "wanted"),
    [
        (Row, '{"task": 7, "score": 1, "size_hw": [3, 4]}', Row(7, 1.0, (3, 4))),
        (Row, '{"task": 7, "score": 0.5, "of_another_release": 1}', Row(7, 0.5)),
        (dict[int, Row], '{"7": {"task": 7, "score": 0.5}}', {7: Row(7, 0.5)}),
    ],
)
def test_what_json_says_is_read_as_what_it_should_hold(tmp_path: Path, kind: Any, text: str, wanted: Any) -> None:
    (tmp_path / "rows.json").write_text(text)
    assert read_as(tmp_path / "rows.json", kind) == line_as(text, kind) == wanted


@pytest.mark.parametrize(
    ("kind", "text", "told"),
    [
        (Row, "[]", r"wanted an object, got \[\]"),
        (Row, '{"task": "7", "score": 1}', "wanted a whole number as task, got '7'"),
        (Row, '{"task": true, "score": 1}', "wanted a whole number as task, got True"),
        (Row, '{"task": 7}', r"wanted a value for score, got \{'task': 7\}"),
        (dict[int, Row], '{"7": {"task": 7, "score": null}}', "wanted a number as 7.score, got None"),
        (
            dict[int, Row],
            '{"seven": {"task": 7, "score": 1}}',
            "wanted whole numbers as names, got 'seven'",
        ),
        (Row, '{"task": 7, "score": 1, "size_hw": [3]}', r"wanted a list of 2 as size_hw, got \[3\]"),
        (dict[str, list[int]], '{"a": [1, 2.5]}', "wanted a whole number as a.1, got 2.5"),
        (dict[str, list[int]], '{"a": 1}', "wanted a list as a, got 1"),
    ],
)
def test_another_kind_of_value_is_named_with_file_place_and_mend(
    tmp_path: Path, kind: Any, text: str, told: str
) -> None:
    (tmp_path / "rows.json").write_text(text)
    with pytest.raises(DamagedFile, match=f"rows.json.*{told}.*restore the file or delete it"):
        read_as(tmp_path / "rows.json", kind)
    with pytest.raises(ValueError):
        line_as(text, kind)


def test_long_wrong_values_are_cut() -> None:
    with pytest.raises(DamagedFile, match=r"got 'x{59}\.\.\.; restore"):
        as_kind({"task": "x" * 1000, "score": 1}, Row, "a file")


def test_a_newer_format_is_told_before_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('{"format": 3, "task": "seven"}')
    with pytest.raises(NewerFormat, match="knows up to 2"):
        read_as(tmp_path / "rows.json", Row, known_format=2)


@pytest.mark.parametrize("text", ["[]", "3", '"text"'])
def test_what_is_no_object_has_no_format(tmp_path: Path, text: str) -> None:
    (tmp_path / "rows.json").write_text(text)
    with pytest.raises(DamagedFile, match=r"rows.json is damaged: wanted an object"):
        read_as(tmp_path / "rows.json", Row, known_format=2)


@pytest.mark.parametrize("text", ["0", "-1", "true", '"1"', "1.5"])
def test_a_format_counts_from_1(tmp_path: Path, text: str) -> None:
    (tmp_path / "rows.json").write_text(f'{{"format": {text}, "task": 7, "score": 1}}')
    with pytest.raises(
        DamagedFile,
        match=r"damaged: wanted a (whole number as format|format of 1 or more), got",
    ):
        read_as(tmp_path / "rows.json", Row, known_format=2)
