"""Going back to an earlier version."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from redis import Redis

from backend.care import rollback
from backend.care.rollback import roll_back, versions_to_go_back_to
from backend.errors import BadSetting
from backend.project.folder import connect_folder
from backend.rounds.folder import FAILED, Round
from backend.settings import Settings
from model.registry import VersionFields
from model.stored_weights import add_version
from tests.backend.shown_project import ShownProject


def test_a_served_version_whose_files_are_gone_is_left_for_the_one_before_it(
    tmp_path: Path, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ShownProject(tmp_path).make_versions()
    shutil.rmtree(folder.registry.weights_path("maskal-r6").parent)
    monkeypatch.setattr(rollback, "open_workplace", lambda settings, folder: SimpleNamespace(folder=folder))
    monkeypatch.setattr(rollback, "_serve", lambda place, version: place.folder.registry.set_current(version.name))
    assert roll_back(Settings(data_dir=tmp_path), redis, folder, None).startswith("project 3 is served by maskal-r5")
    assert folder.registry.current() == "maskal-r5"


def test_a_version_whose_weights_are_gone_is_not_gone_back_to(tmp_path: Path, redis: Redis) -> None:
    folder = ShownProject(tmp_path).make_versions()
    folder.registry.weights_path("maskal-r5").unlink()
    assert versions_to_go_back_to(folder) == ("maskal-r4", "maskal-r2", "maskal-r1")
    with pytest.raises(BadSetting, match="no accepted version 'maskal-r5' to go back to; others: maskal-r1, maskal-r2"):
        roll_back(Settings(data_dir=tmp_path), redis, folder, "maskal-r5")
    assert folder.registry.current() == "maskal-r6"


def test_the_parent_is_meant_unless_another_is_named_and_no_version_that_was_never_served(
    tmp_path: Path, redis: Redis
) -> None:
    folder = connect_folder(tmp_path, "1.1")
    for number, parent in ((1, None), (2, "maskal-r1"), (3, "maskal-r1"), (4, "maskal-r3")):
        fields = VersionFields(number, ("leaf",), "fake", {}, {}, parent, "", True, "")
        add_version(folder.registry, fields, {"w": torch.zeros(1)})
    folder.registry.set_current("maskal-r3")
    failed = Round(folder.rounds / "4")
    failed.state.state = FAILED
    failed.save()
    assert versions_to_go_back_to(folder) == ("maskal-r1", "maskal-r2")
    for name, told in {"maskal-r3": "is the version that is served", "maskal-r4": "there is no accepted"}.items():
        with pytest.raises(BadSetting, match=rf"{told}.*; others: maskal-r1, maskal-r2$"):
            roll_back(Settings(data_dir=tmp_path), redis, folder, name)
