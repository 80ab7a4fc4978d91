"""Caches on disk are kept within their size."""

from __future__ import annotations

import os
from pathlib import Path

from model.file_cache import trim_cache


def test_the_cache_is_trimmed_oldest_first(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "old", "oldest")):
        (tmp_path / "aa").mkdir(exist_ok=True)
        path = tmp_path / "aa" / name
        path.write_bytes(b"x" * 100)
        os.utime(path, (1000 - age, 1000 - age))
    assert trim_cache(tmp_path, 150) == 2
    assert [p.name for p in (tmp_path / "aa").iterdir()] == ["new"]


def test_a_file_that_another_process_removes_does_not_stop_the_trimming(tmp_path: Path) -> None:
    (tmp_path / "aa").mkdir()
    (tmp_path / "aa" / "gone").symlink_to("nowhere")  # listed, but without a size
    (tmp_path / "aa" / "there").write_bytes(b"x" * 100)
    assert trim_cache(tmp_path, 0) == 1
