from __future__ import annotations

import math
from pathlib import Path

import pytest

from model.errors import BadRecord
from model.formats.layout import annotation_files, below, checked_size, image_size, written_path


def fail(problem: str) -> None:
    raise AssertionError(problem)


def test_files_are_found_in_order_and_hidden_ones_are_not(tmp_path: Path) -> None:
    for name in ("b.json", "a/z.json", "a/c.txt", ".hidden/a.json", "a/._z.json", "a/.tmp-q.json", "d.json/e.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in annotation_files(tmp_path, ".json", fail)]
    assert found == ["a/z.json", "b.json", "d.json/e.json"]
    assert [path.name for path in annotation_files(tmp_path, ".json", fail, folder="a")] == ["z.json"]


def test_windows_may_write_endings_in_capitals(tmp_path: Path) -> None:
    for name in ("a.JSON", "b.json", "c.Json", "d.XML"):
        (tmp_path / name).touch()
    assert [path.name for path in annotation_files(tmp_path, ".json", fail)] == ["a.JSON", "b.json", "c.Json"]


def test_a_folder_below_a_hidden_one_is_read(tmp_path: Path) -> None:
    (tmp_path / ".demo").mkdir()
    (tmp_path / ".demo" / "a.json").touch()
    assert [path.name for path in annotation_files(tmp_path / ".demo", ".json", fail)] == ["a.json"]


@pytest.mark.parametrize(
    "name", ["../a.jpg", "x/../../a.jpg", "/etc/a.jpg", "C:a.jpg", "\\\\host\\a.jpg", "a\0.jpg", ".", "http://h/a.jpg"]
)
def test_a_name_that_leads_out_of_the_folder_is_refused(name: str) -> None:
    with pytest.raises(BadRecord, match="image"):
        below(".", name)


def test_a_name_that_begins_with_dots_is_a_name(tmp_path: Path) -> None:
    assert below("x", "..a.jpg") == "x/..a.jpg"
    assert below("x/y", "..\\a.jpg") == "x/a.jpg"
    assert written_path(tmp_path, "..x/a.jpg") == tmp_path / "..x" / "a.jpg"


@pytest.mark.parametrize(("height", "width"), [(0, 5), (5, -1), (1.5, 2), (math.nan, 2), (math.inf, 2), (10**6, 10**6)])
def test_a_size_that_cannot_be_true_is_refused(height: float, width: float) -> None:
    with pytest.raises(BadRecord, match="wanted whole numbers of pixels"):
        checked_size(height, width)


def test_a_size_may_be_text_or_a_whole_float() -> None:
    assert checked_size("20", 24.0) == (20, 24)


def test_what_is_no_image_has_no_size(tmp_path: Path) -> None:
    for content in (b"", b"GIF89a", tmp_path / "nothing.jpg"):
        with pytest.raises(BadRecord, match="the image cannot be read"):
            image_size(content)
