from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from backend.rounds.retired import LONGEST_STEP_S, Retired
from model.errors import NewerFormat

NOW = 1_800_000_000.0


def test_time_is_counted_from_look_to_look_for_each_version(tmp_path: Path) -> None:
    assert Retired(tmp_path).count(["a"], NOW) == {"a": 0}
    assert Retired(tmp_path).count(["a", "b"], NOW + 45) == {"a": 45, "b": 0}
    assert Retired(tmp_path).count(["a", "b"], NOW + 100) == {"a": 100, "b": 55}
    assert Retired(tmp_path).count(["b"], NOW + 110) == {"b": 65}
    assert Retired(tmp_path).count(["a", "b"], NOW + 120) == {"a": 0, "b": 75}, "a was of use in between"


@pytest.mark.parametrize("jump_s", [10 * 365 * 24 * 3600.0, -10 * 365 * 24 * 3600.0])
def test_a_clock_that_jumps_adds_a_step_at_most_and_the_count_goes_on(tmp_path: Path, jump_s: float) -> None:
    retired = Retired(tmp_path)
    retired.count(["a"], NOW)
    step_s = retired.count(["a"], NOW + jump_s)["a"]
    assert step_s == (LONGEST_STEP_S if jump_s > 0 else 0)
    assert retired.count(["a"], NOW + jump_s + 45)["a"] == step_s + 45
    back_s = retired.count(["a"], NOW + 45)["a"]
    assert back_s <= step_s + 45 + LONGEST_STEP_S
    assert retired.count(["a"], NOW + 90)["a"] == back_s + 45


def test_a_version_that_is_handed_out_again_begins_anew(tmp_path: Path) -> None:
    retired = Retired(tmp_path)
    retired.count(["a", "b"], NOW)
    retired.count(["a", "b"], NOW + 100)
    retired.forget("a", "never heard of")
    assert retired.count(["a", "b"], NOW + 110) == {"a": 0, "b": 110}


def test_nothing_is_written_as_long_as_nothing_is_retired(tmp_path: Path) -> None:
    retired = Retired(tmp_path)
    retired.forget("a")
    assert retired.count([], NOW) == {} and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "rubbish",
    ["", "{", "[]", '{"format": 1}', '{"looked_at": 0, "retired_s": []}', '{"looked_at": 0, "retired_s": {"a": "?"}}'],
)
def test_a_damaged_file_begins_every_count_anew_and_is_named(tmp_path: Path, rubbish: str, caplog) -> None:
    (tmp_path / "retired.json").write_text(rubbish)
    with caplog.at_level(logging.WARNING):
        assert Retired(tmp_path).count(["a"], NOW) == {"a": 0}
    assert "retired.json cannot be read" in caplog.text
    assert Retired(tmp_path).count(["a"], NOW + 45) == {"a": 45}


def test_the_file_names_its_format_and_that_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    Retired(tmp_path).count(["a"], NOW)
    path = tmp_path / "retired.json"
    assert json.loads(path.read_text()) == {"format": 1, "looked_at": NOW, "retired_s": {"a": 0}}
    path.write_text('{"format": 2}')
    with pytest.raises(NewerFormat, match=r"retired\.json has format 2"):
        Retired(tmp_path).count(["a"], NOW)
