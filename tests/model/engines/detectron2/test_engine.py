"""Needs an installed Detectron2; the contract's tests hold for it too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from model.engines.base import EngineConfig
from model.engines.loader import build_engine
from model.errors import BadCheckpoint, BadEngine

R50 = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"
CLASSES = ("leaf", "spot")

pytestmark = pytest.mark.detectron2


def test_dropout_stands_before_the_layers_that_maskal_has_it_before() -> None:
    heads = build_engine("detectron2", CLASSES, EngineConfig(R50, 0.3)).network.roi_heads
    assert [name for name, _ in heads.box_head.named_children()] == [
        *("flatten", "drop_fc1", "fc1", "fc_relu1", "drop_fc2", "fc2", "fc_relu2")
    ]
    assert [name for name, _ in heads.mask_head.named_children()] == [
        *("mask_fcn1", "mask_fcn2", "mask_fcn3", "mask_fcn4", "drop_deconv", "deconv", "deconv_relu"),
        *("drop_predictor", "predictor"),
    ]
    dropouts = [layer for layer in heads.modules() if isinstance(layer, nn.Dropout)]
    assert len(dropouts) == 6 and {layer.p for layer in dropouts} == {0.3}


def test_it_gives_the_torchvision_engines_rows_to_the_same_weights() -> None:
    torch.manual_seed(0)
    config = EngineConfig(R50, confidence_threshold=0.1, image_size=(128, 192))
    theirs = build_engine("detectron2", CLASSES, config)
    ours = build_engine("torchvision", CLASSES, config)
    ours.load_tensors(theirs.tensors(), CLASSES)
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    [a], [b] = theirs.encode([image], exact=True), ours.encode([image], exact=True)
    assert a.resized_hw == b.resized_hw == (128, 171)
    for wanted, got in zip(a.features.values(), b.features.values(), strict=True):
        assert torch.allclose(got, wanted, rtol=1e-3, atol=1e-3 * float(wanted.std()))


def test_what_a_file_said_outlives_the_file(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(f"MODEL: {{RESNETS: {{DEPTH: 101}}}}\n_BASE_: {base()}\n")
    config = build_engine("detectron2", CLASSES, EngineConfig(str(own))).config
    own.unlink()
    again = build_engine("detectron2", CLASSES, config)
    assert len(again.network.backbone.bottom_up.res4) == 23
    with pytest.raises(BadEngine, match="network_config must be a YAML config"):
        build_engine("detectron2", CLASSES, EngineConfig(str(own)))


def base() -> str:
    from detectron2 import model_zoo

    return model_zoo.get_config_file(R50)


@pytest.mark.parametrize("name", ["nano", "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_3x.yaml"])
def test_other_networks_are_refused(name: str) -> None:
    with pytest.raises(BadEngine):
        build_engine("detectron2", CLASSES, EngineConfig(name))


def test_other_classes_than_the_files_are_told() -> None:
    engine = build_engine("detectron2", CLASSES, EngineConfig(R50))
    wrong = build_engine("detectron2", ("a", "b", "c"), EngineConfig(R50)).tensors()
    with pytest.raises(BadCheckpoint, match="do not fit"):
        engine.load_tensors(wrong, CLASSES)
