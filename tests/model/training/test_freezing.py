from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from model.engines.base import Engine, EngineConfig
from model.engines.loader import build_engine
from model.engines.torchvision.engine import TorchvisionEngine
from model.training.freezing import frozen, trained_groups
from model.training.loop import Progress, TrainingConfig, train
from tests.model.training.squares import CLASSES, RECORDS, picture


def small(seed: int = 0, network: str = "nano") -> Engine:
    torch.manual_seed(seed)
    return build_engine("torchvision", CLASSES, EngineConfig(network))


def trained(stages: list[list[nn.Parameter]]) -> list[set[bool]]:
    return [{parameter.requires_grad for parameter in stage} for stage in stages]


@pytest.mark.parametrize("network", ["nano", "lite", "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"])
def test_stages_take_no_gradients_while_training_only(network: str) -> None:
    engine = small(network=network)
    before = trained(engine.backbone_stages())
    assert len(before) == 5
    for freeze_at, rate, count in ((0, 1.0, 0), (2, 0.1, 2), (3, 1.0, 3), (9, 1.0, 5), (0, 0.0, 5)):
        with frozen(engine, freeze_at, rate):
            assert [True not in found for found in trained(engine.backbone_stages())] == [i < count for i in range(5)]
        assert trained(engine.backbone_stages()) == before


def test_a_network_of_detectron2_is_built_with_what_its_config_freezes() -> None:
    engine = small(network="COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml")
    with frozen(engine, None, 1.0):
        assert trained(engine.backbone_stages()) == [{False}, {False}, {True}, {True}, {True}]
    assert engine.keeping.freeze_at == 2


def test_it_is_as_before_when_training_fails() -> None:
    engine = small()

    def fail(progress: Progress) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        train(engine, RECORDS, picture, TrainingConfig(2, 1e-4, batch_size=1, freeze_at=2), fail)
    assert all(parameter.requires_grad for parameter in engine.network.parameters())


def test_the_backbone_is_a_group_of_its_own_where_it_learns_slower() -> None:
    engine = small()
    names = {id(parameter): name for name, parameter in engine.network.named_parameters()}
    with frozen(engine, 2, 0.1):
        slow, fast = trained_groups(engine, 0.1)
        assert (slow["share"], fast["share"]) == (0.1, 1.0)
        assert {names[id(p)].split(".")[2] for p in slow["params"]} == {"layer2", "layer3", "layer4"}
        assert not any(names[id(p)].startswith("backbone.body") for p in fast["params"])
        assert any(names[id(p)].startswith("backbone.fpn") for p in fast["params"])
    (alone,) = trained_groups(engine, 1.0)
    assert [id(p) for p in alone["params"]] == [id(p) for p in engine.network.parameters()], "in the order as ever"


def moved(engine: Engine, work: Callable[[], object]) -> dict[str, float]:
    """How far the weights of each part have moved, and the statistics of its batch norm."""
    before = {name: tensor.clone() for name, tensor in engine.tensors().items()}
    work()
    far: dict[str, float] = {}
    for name, tensor in engine.tensors().items():
        if tensor.is_floating_point():
            part = ".".join(name.split(".")[:3]) + (" statistics" if ".running_" in name else "")
            far[part] = max(far.get(part, 0.0), float((tensor - before[name]).abs().max()))
    return far


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_frozen_stages_stay_with_their_statistics_and_the_others_move_slower(optimizer: str) -> None:
    engine = small()
    config = TrainingConfig(2, 1e-3, 2, freeze_at=2, backbone_rate=0.1, warmup_iterations=0, optimizer=optimizer)
    far = moved(engine, lambda: train(engine, RECORDS, picture, config))
    for part in ("conv1", "bn1", "bn1 statistics", "layer1", "layer1 statistics"):
        assert far[f"backbone.body.{part}"] == 0
    assert far["backbone.body.layer4"] > 0 and far["roi_heads.box_head.fc7"] > 0
    if optimizer == "adamw":  # its first steps are as long as the rate
        assert far["backbone.body.layer4"] < 0.3 * far["backbone.fpn.layer_blocks"]


def test_a_rate_of_nothing_leaves_the_whole_backbone() -> None:
    engine = small()
    far = moved(engine, lambda: train(engine, RECORDS, picture, TrainingConfig(2, 1e-3, 2, backbone_rate=0.0)))
    assert {part for part, distance in far.items() if distance == 0} >= {
        f"backbone.body.{name}" for name in ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")
    }
    assert far["backbone.fpn.inner_blocks"] > 0


def test_frozen_batch_norm_stays_in_eval_mode_in_its_stages_only() -> None:
    engine = small()
    assert isinstance(engine, TorchvisionEngine)
    body, told = engine.network.backbone.body, []
    note = lambda progress: told.append((body.bn1.training, body.layer1[0].bn1.training, body.layer2[0].bn1.training))  # noqa: E731
    train(engine, RECORDS, picture, TrainingConfig(1, 1e-4, 1, freeze_at=2), note)
    assert told == [(False, False, True)]


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("network", ["nano", "lite"])
def test_a_killed_run_with_slower_stages_goes_on_as_if_nothing_had_been(
    tmp_path: Path, network: str, optimizer: str
) -> None:
    settings = TrainingConfig(4, 1e-3, 1, 3, 0.1, warmup_iterations=0, checkpoint_period=2, optimizer=optimizer)

    def losses(checkpoint: Path | None = None, kill_at: int | None = None) -> list[float]:
        engine, told = small(network=network), []

        def tell(progress: Progress) -> None:
            told.append(progress.loss)
            if progress.step == kill_at:
                raise Killed

        train(engine, RECORDS, picture, settings, tell, checkpoint=checkpoint)
        return told

    path = tmp_path / "training.safetensors"
    with pytest.raises(Killed):
        losses(path, kill_at=3)
    assert losses(path) == pytest.approx(losses()[2:], rel=1e-3)


def test_rates_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match=r"backbone_rate must lie in 0\.\.1, got 2"):
        TrainingConfig(1, 1e-3, backbone_rate=2)
    with pytest.raises(ValueError, match="freeze_at must be at least 0, got -1"):
        TrainingConfig(1, 1e-3, freeze_at=-1)
