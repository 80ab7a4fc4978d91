"""A project's settings: shown as a file that sets them, and replaced by one."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from backend.care import project_settings as care
from backend.cli import main
from backend.errors import BadSetting
from backend.project.config import ProjectConfig, check_config
from backend.project.folder import ProjectFolder, connect_folder
from backend.project.settings_yaml import parse_settings
from backend.settings import Settings
from model.errors import BadCheckpoint
from tests.backend.fake_label_studio import FakeLabelStudio

OWN = {
    "strategy": "coverage",
    "step_ratios": [0.5, 0.9],
    "minority_classes": ["rust: brown", "no"],
    "learning_rate": 1e-3,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ProjectFolder:
    """Of a project with settings of its own."""
    server = FakeLabelStudio("1.1", 4, 0)
    monkeypatch.setattr(care, "find_project", lambda settings, folder: server.project(1))
    found = connect_folder(tmp_path, "1.1")
    found.store_config(ProjectConfig.model_validate(OWN))
    return found


def replaced(folder: ProjectFolder, text: str) -> tuple[str, ...]:
    path = folder.path.parent / "new.yaml"
    path.write_text(text)
    return care.replace(Settings(data_dir=folder.path.parents[1]), folder, path)


def test_what_is_shown_is_a_file_that_sets_the_same(folder: ProjectFolder) -> None:
    shown = "\n".join(care.show(folder))
    assert check_config(parse_settings(shown.encode()), "shown").model_dump(exclude_unset=True) == OWN


def test_all_settings_are_shown_with_what_holds(folder: ProjectFolder) -> None:
    shown = list(care.show(folder))
    assert "strategy: coverage" in shown and "step_ratios: [0.5, 0.9]" in shown
    assert "# pool_size: 20" in shown and "# device: chosen by network, device and data" in shown
    assert "# loops: no limit" in shown
    assert len(shown) == 1 + len(ProjectConfig.model_fields)


def test_the_command_shows_them(folder: ProjectFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_DIR", str(folder.path.parents[1]))
    result = CliRunner().invoke(main, ["config", "--project", "1"])
    assert result.exit_code == 0 and result.output.splitlines() == list(care.show(folder))


def test_a_file_takes_the_place_of_all_settings_and_it_is_told_what_changes(folder: ProjectFolder) -> None:
    [told] = replaced(folder, "strategy: coverage\nstep_ratios: [0.5, 0.9]\npool_size: 10\n")
    left = "chosen by network, device and data"
    assert told == (
        f"project 1: pool_size from 20 to 10, learning_rate from 0.001 to {left}, minority_classes from "
        f"['rust: brown', 'no'] to {left}; a worker follows at its next look"
    )
    assert folder.config().pool_size == 10 and folder.config().learning_rate is None
    [told] = replaced(folder, "strategy: coverage\nstep_ratios: [0.5, 0.9]\npool_size: 10\n")
    assert told == "project 1: nothing changes"


def test_a_file_that_does_not_fit_changes_nothing(folder: ProjectFolder) -> None:
    with pytest.raises(BadSetting, match="pool_size"):
        replaced(folder, "pool_size: 0\n")
    with pytest.raises(BadCheckpoint):
        replaced(folder, "pretrained_weights: /nowhere/model.pth\n")
    assert folder.config().model_dump(exclude_unset=True) == OWN


def test_a_minority_class_that_the_project_has_not_is_told(folder: ProjectFolder) -> None:
    _, told = replaced(folder, "minority_classes: [leaf, spott]\n")
    assert told.startswith("note: minority_classes names 'spott', which the labelling config does not have")
    assert folder.config().minority_classes == ["leaf", "spott"]


def changed(folder: ProjectFolder, *wanted: str) -> tuple[str, ...]:
    return care.change(Settings(data_dir=folder.path.parents[1]), folder, wanted)


def test_single_settings_are_changed_and_taken_back_and_the_others_stay(folder: ProjectFolder) -> None:
    told, _ = changed(folder, "pool_size=10", "learning_rate=", "step_ratios=[0.6, 0.9]")
    assert told.startswith("project 1: pool_size from 20 to 10, learning_rate from 0.001 to chosen by network")
    now = folder.config().model_dump(exclude_unset=True)
    assert now.pop("pool_size") == 10 and now.pop("step_ratios") == [0.6, 0.9]
    assert now == {name: OWN[name] for name in ("strategy", "minority_classes")}


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("pool_size", r"takes name=value, such as pool_size=10, got 'pool_size'"),
        ("pool_size=ten", r"--set: pool_size: .*got 'ten'"),
        ("pol_size=10", r"unknown setting 'pol_size'"),
        ("device=[", r"'device=\[' cannot be read as YAML"),
    ],
)
def test_a_single_setting_that_does_not_fit_changes_nothing(folder: ProjectFolder, wanted: str, told: str) -> None:
    with pytest.raises(BadSetting, match=told):
        changed(folder, "mode=min", wanted)
    assert folder.config().model_dump(exclude_unset=True) == OWN


def test_another_preset_takes_its_numbers_along_and_leaves_what_somebody_set(folder: ProjectFolder) -> None:
    told, note, *_ = changed(folder, "preset=maskal")
    assert "pool_size from 20 to 200" in told and "loops from no limit to 12" in told
    assert note == "note: the project's own learning_rate=0.001 stands above the preset; `--set NAME=` takes one back"
    assert folder.config().pool_size == 200 and folder.config().learning_rate == OWN["learning_rate"]
    assert {"# pool_size: 200", "# loops: 12", "learning_rate: 0.001"} <= set(care.show(folder))
    changed(folder, "loops=3")
    told, note, *_ = changed(folder, "preset=adaptive")
    assert "pool_size from 200 to 20" in told and "loops" not in told and "learning_rate" not in told
    assert note.startswith("note: the project's own loops=3, learning_rate=0.001 stand above the preset; ")
    assert folder.config().model_dump(exclude_unset=True) == {**OWN, "loops": 3, "preset": "adaptive"}
    told, *_ = changed(folder, "preset=")
    assert told == "project 1: nothing changes"


def test_a_value_that_is_the_presets_own_stays_if_somebody_set_it(folder: ProjectFolder) -> None:
    changed(folder, "preset=maskal", "pool_size=200")
    changed(folder, "preset=adaptive")
    assert folder.config().pool_size == 200 and folder.config().initial_datasize == 30


def test_names_of_classes_are_shown_in_their_own_letters(folder: ProjectFolder) -> None:
    folder.store_config(ProjectConfig(minority_classes=["Möhre"]))
    assert "minority_classes: [Möhre]" in care.show(folder)
