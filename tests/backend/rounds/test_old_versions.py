from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from backend.project.config import ProjectConfig
from backend.project.folder import connect_folder
from backend.project.workplace import Workplace
from backend.rounds.folder import all_rounds, start_round
from backend.rounds.old_versions import remove_old_versions
from model.errors import BadVersion
from model.registry import VersionFields
from model.stored_weights import add_version
from tests.backend.round_places import read_round, workplace


def place_with(data_dir: Path, held: dict[str, int], keep: int, best: int, versions: int = 9) -> Workplace:
    """A project whose version 2 is served and was trained from version 1."""
    folder = connect_folder(data_dir, "1.1")
    for number in range(1, versions + 1):
        metrics = {"mask_ap": 0.9 if number == best else 0.5}
        parent = "maskal-r1" if number == 2 else None
        fields = VersionFields(number, ("a",), "fake", {}, metrics, parent, "", True, "")
        add_version(folder.registry, fields, {"colours": torch.zeros(1, 3)})
    folder.registry.set_current("maskal-r2")
    client = SimpleNamespace(model_versions=lambda project_id: held)
    config = ProjectConfig(keep_versions=keep)
    return cast(Workplace, SimpleNamespace(folder=folder, client=cast(Any, client), config=config))


def names(*numbers: int) -> tuple[str, ...]:
    return tuple(f"maskal-r{number}" for number in numbers)


def test_the_served_its_parent_the_best_the_newest_and_what_predictions_need_stay(tmp_path: Path) -> None:
    place = place_with(tmp_path, {"maskal-r5": 3, "maskal-r2": 8}, keep=2, best=4)
    assert remove_old_versions(place) == names(3, 6, 7)
    assert place.folder.registry.names() == names(1, 2, 4, 5, 8, 9)
    assert remove_old_versions(place) == ()
    place.client.model_versions = lambda project_id: {}  # type: ignore[method-assign]
    assert remove_old_versions(place) == names(5), "once its predictions are gone"
    assert place.folder.registry.next_number() == 10


def test_what_a_version_learned_from_goes_with_it(tmp_path: Path) -> None:
    """It is all that was annotated then, once for each round: all together grow with the square of the project."""
    place = place_with(tmp_path, {}, keep=1, best=4, versions=5)
    rounds = [read_round(workplace(tmp_path), number, dict.fromkeys(range(number), "digest")) for number in range(1, 6)]
    for one in rounds:
        one.state.state = "published"
        one.save()
    assert remove_old_versions(place) == names(3)
    kept = [one.state.number for one in rounds if (one.path / "annotations.jsonl").exists()]
    assert kept == [1, 2, 4, 5]
    assert rounds[2].snapshot() is not None and len(all_rounds(place.folder)) == 5


def test_nothing_goes_below_the_number_or_during_a_round(tmp_path: Path) -> None:
    assert remove_old_versions(place_with(tmp_path / "few", {}, keep=5, best=1, versions=5)) == ()
    place = place_with(tmp_path / "busy", {}, keep=1, best=9)
    begun = start_round(place.folder, 9)
    assert remove_old_versions(place) == ()
    begun.cancel()
    assert remove_old_versions(place) == names(3, 4, 5, 6, 7, 8)


def test_the_served_version_cannot_be_removed(tmp_path: Path) -> None:
    registry = place_with(tmp_path, {}, keep=5, best=1).folder.registry
    with pytest.raises(BadVersion, match="maskal-r2 is served; serve another one"):
        registry.remove("maskal-r2")
