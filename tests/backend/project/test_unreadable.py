"""The list of images that could not be read."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from backend.errors import BadImage
from backend.project.unreadable import Unreadable


def test_what_several_note_and_clear_side_by_side_is_all_kept(tmp_path: Path) -> None:
    for task in range(40, 60):
        Unreadable(tmp_path).note(task, BadImage("before"))

    def change(task: int) -> None:
        if task < 40:
            Unreadable(tmp_path).note(task, BadImage("now"))
        else:
            Unreadable(tmp_path).clear(task)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(change, range(60)))
    assert set(Unreadable(tmp_path).failures()) == set(range(40))
