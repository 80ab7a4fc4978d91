from __future__ import annotations

import json
from pathlib import Path

import pytest

from backend.project.folder import connect_folder
from backend.rounds.folder import Round, all_rounds, start_round
from model.errors import NewerFormat


def test_a_round_comes_back_with_its_state(tmp_path: Path) -> None:
    begun = start_round(connect_folder(tmp_path, "1.1"), known_number=4)
    begun.state.state, begun.state.seconds = "read", {"read": 1.5}
    begun.save()
    assert Round(begun.path).state == begun.state and begun.state.number == 5
    assert json.loads((begun.path / "state.json").read_text())["format"] == 1


def test_a_state_without_format_counts_as_the_first(tmp_path: Path) -> None:
    begun = start_round(connect_folder(tmp_path, "1.1"), 0)
    (begun.path / "state.json").write_text(json.dumps({"number": 1, "state": "trained"}))
    assert Round(begun.path).state.state == "trained"


def test_a_round_of_a_newer_release_is_refused_whole(tmp_path: Path) -> None:
    folder = connect_folder(tmp_path, "1.1")
    begun = start_round(folder, 0)
    (begun.path / "state.json").write_text(json.dumps({"format": 2, "number": 1, "stage": "trained"}))
    with pytest.raises(NewerFormat, match=r"state\.json has format 2, this release knows up to 1"):
        all_rounds(folder)
