from __future__ import annotations

from pathlib import Path

import torch

from backend.project.folder import ProjectFolder, connect_folder
from backend.rounds.history import note_rollback, note_version, read_history
from model.registry import Version, VersionFields
from model.stored_weights import add_version


def add(folder: ProjectFolder, number: int, ap: float | None = 0.5, *, promoted: bool = True) -> Version:
    metrics = {
        "mask_ap": ap,
        "interval": {"mask_ap": [0.4, 0.6], "per_class": {"leaf": [0.3, 0.7]}},
        "per_class": {"leaf": {"mask_ap": ap, "box_ap": ap, "instances": 7}},
        "images": 12,
        "training": {"images": 10 * number},
    }
    fields = VersionFields(number, ("leaf",), "fake", {}, metrics, None, "", promoted, "why")
    return add_version(folder.registry, fields, {"w": torch.zeros(1)})


def test_what_was_measured_outlives_a_deleted_version(tmp_path: Path) -> None:
    folder = connect_folder(tmp_path, "1.1")
    note_version(folder, add(folder, 1))
    add(folder, 2)  # by a release that kept nothing
    folder.registry.remove("maskal-r1")
    first, second = read_history(folder).versions
    assert (first.version, first.annotated, first.mask_ap, first.interval) == ("maskal-r1", 22, 0.5, (0.4, 0.6))
    assert first.per_class == {"leaf": (0.5, (0.3, 0.7))} and first.reason == "why"
    assert second.version == "maskal-r2"


def test_a_round_that_was_killed_after_it_had_told_a_version_tells_it_once(tmp_path: Path) -> None:
    folder = connect_folder(tmp_path, "1.1")
    version = add(folder, 1)
    note_version(folder, version), note_version(folder, version)
    assert len(read_history(folder).versions) == 1


def test_versions_are_rolled_back_until_they_are_served_again(tmp_path: Path) -> None:
    folder = connect_folder(tmp_path, "1.1")
    for number in range(1, 5):
        note_version(folder, add(folder, number, promoted=number != 3))
    note_rollback(folder, "maskal-r4", "maskal-r1")
    assert read_history(folder).rolled_back == {"maskal-r2", "maskal-r4"}, "the refused one never was served"
    note_rollback(folder, "maskal-r1", "maskal-r4")
    assert read_history(folder).rolled_back == {"maskal-r2"}


def test_a_torn_line_costs_only_itself(tmp_path: Path) -> None:
    folder = connect_folder(tmp_path, "1.1")
    note_version(folder, add(folder, 1, ap=None))
    with (folder.path / "history.jsonl").open("a") as file:
        file.write('{"event": "mea')
    assert [measured.mask_ap for measured in read_history(folder).versions] == [None]
