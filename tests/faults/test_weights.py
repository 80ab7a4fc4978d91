"""Weights that are cut short, swapped between versions, or of another network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from backend.care.cancel import cancel
from backend.care.rollback import roll_back
from backend.project.config import ProjectConfig
from backend.queue.jobs import hint
from backend.rounds.first_queue import FIRST_VERSION, has_first_queue
from backend.rounds.standing import read_standing
from model import checkpoints
from model.engines.torchvision.imagenet import PACKAGES
from model.engines.torchvision.timm_networks import LITE
from tests.faults.label_studio import UID
from tests.faults.test_kills import served_and_due
from tests.faults.world import CONFIG, World


def cut_short(path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def swap(path: Path, other: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(content)


def put_another_network(path: Path, other: Path) -> None:
    checkpoints.save(path, {"conv1.weight": torch.zeros(2, 3)}, {})


DAMAGES: dict[str, Callable[[Path, Path], None]] = {
    "cut short": cut_short,
    "swapped": swap,
    "of another network": put_another_network,
}


def two_versions(world: World) -> tuple[Path, Path]:
    """Two versions, the second of which is served; the files of the second's and the first's weights."""
    served_and_due(world)
    world.assert_recovers()
    registry = world.folder.registry
    assert registry.current() == "maskal-r2"
    return registry.weights_path("maskal-r2"), registry.weights_path("maskal-r1")


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_weights_of_the_served_version_are_told_and_once_restored_all_goes_on(
    world: World, damage: str
) -> None:
    served, first = two_versions(world)
    contents = {path: path.read_bytes() for path in (served, first)}
    DAMAGES[damage](served, first)
    hint(world.redis, UID, is_forced=True)
    world.looks(5)
    assert "weights of maskal-r2" in world.trouble() and "restore it from a backup" in world.trouble()
    assert world.rounds()[-1].is_unfinished, "a fault that lasts costs no attempt"
    assert world.followed == "maskal-r2"
    world.assert_queue_is_complete()
    for path, content in contents.items():
        path.write_bytes(content)
    world.annotate(13)
    world.assert_recovers()


@pytest.mark.slow
def test_damaged_weights_are_mended_by_a_rollback(world: World) -> None:
    served, first = two_versions(world)
    content = served.read_bytes()
    cut_short(served, first)
    hint(world.redis, UID, is_forced=True)
    world.looks(3)
    assert "`maskal cancel --project 1` and `maskal rollback --project 1`" in world.trouble()
    cancel(world.redis, world.folder)
    world.looks(1)
    roll_back(world.settings, world.redis, world.folder, None)
    assert world.followed == world.folder.registry.current() == "maskal-r1"
    world.annotate(13)
    hint(world.redis, UID, is_forced=True)
    world.looks(4)
    assert world.is_settled() and world.folder.registry.get(world.followed).parent == "maskal-r1"
    served.write_bytes(content)
    world.assert_recovers()


@pytest.mark.slow
def test_damaged_weights_of_a_version_that_is_not_served_stop_nothing(world: World) -> None:
    served, first = two_versions(world)
    content = first.read_bytes()
    cut_short(first, served)
    hint(world.redis, UID, is_forced=True)
    world.looks(4)
    assert [r.state.state for r in world.rounds()][2] in ("published", "refused")
    first.write_bytes(content)
    world.assert_recovers()


def test_a_round_whose_trained_weights_are_cut_short_trains_again(world: World) -> None:
    world.at("evaluate", lambda: cut_short(world.rounds()[-1].weights, Path()))
    world.assert_recovers()
    assert [r.state.state for r in world.rounds()] == ["published"]


def test_without_the_imagenet_weights_the_looks_go_on_and_once_mended_the_first_images_are_chosen(world: World) -> None:
    settings = {**CONFIG, "initial_datasize": 12, "first_images": "coverage", "near_copies": "last"}
    world.folder.store_config(ProjectConfig.model_validate(settings))
    package = PACKAGES[LITE.name]
    with world.monkeypatch.context() as missing:
        missing.setitem(PACKAGES, LITE.name, replace(package, module="no_such_package"))
        world.looks(3)
        assert world.followed == "" and not has_first_queue(world.folder)
        assert read_standing(world.folder) is not None, "what comes after the first images is done"
        told = "\n".join(world.status())
        assert "the first images come in random order" in told and f"pip install {package.requirement}" in told
    world.looks(2)
    assert world.followed == FIRST_VERSION and "the first images are chosen" in "\n".join(world.status())
    world.assert_queue_is_complete()
