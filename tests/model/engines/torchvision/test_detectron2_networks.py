from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FrozenBatchNorm2d

from model.engines.base import EngineConfig, Target
from model.engines.detectron2.configs import read_facts
from model.engines.torchvision.detectron2_networks import (
    FixedStrideAnchors,
    FrozenNorm,
    LogitProposals,
    build,
    input_range,
)
from model.engines.torchvision.engine import TorchvisionEngine
from model.engines.torchvision.networks import build_network, find_network
from model.scaling import DETECTRON2

R50 = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"
X101 = "COCO-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_3x.yaml"


def anchors_at(generator: FixedStrideAnchors, grids: list[tuple[int, int]]) -> torch.Tensor:
    maps = [torch.zeros(1, 1, *grid) for grid in grids]
    [anchors] = generator(ImageList(torch.zeros(1, 3, 100, 77), [(99, 71)]), maps)
    return anchors


def test_anchors_are_neither_rounded_nor_moved_with_the_image() -> None:
    generator = FixedStrideAnchors([[32], [64]], [[0.5, 1, 2]] * 2, 0.0)
    anchors = anchors_at(generator, [(2, 3), (1, 2)])
    half = 32 * math.sqrt(2) / 2
    assert anchors.shape == ((6 + 2) * 3, 4)
    assert anchors[0].tolist() == pytest.approx([-half, -half / 2, half, half / 2])
    assert anchors[1].tolist() == [-16, -16, 16, 16]
    assert anchors[4].tolist() == [-12, -16, 20, 16], "the next cell is 4 pixels to the right"
    assert anchors[10].tolist() == [-16, -12, 16, 20], "then the next row"
    assert anchors[6 * 3 + 4].tolist() == [-24, -32, 40, 32], "8 pixels on the second level"


def test_anchors_may_stand_between_the_corners_of_their_cells() -> None:
    anchors = anchors_at(FixedStrideAnchors([[32]], [[1]], 0.5), [(1, 1)])
    assert anchors.tolist() == [[-14, -14, 18, 18]]


def test_features_in_bfloat16_do_not_round_anchors_for_later() -> None:
    generator = FixedStrideAnchors([[32]], [[0.5]], 0.0)
    before = anchors_at(generator, [(1, 1)])
    generator(ImageList(torch.zeros(1, 3, 4, 4), [(4, 4)]), [torch.zeros(1, 1, 1, 1, dtype=torch.bfloat16)])
    assert torch.equal(anchors_at(generator, [(1, 1)]), before)


def test_the_stride_stands_where_the_config_puts_it() -> None:
    first = build(read_facts(R50), 2).backbone.body.layer2[0]
    assert (first.conv1.stride, first.conv2.stride) == ((2, 2), (1, 1))
    first = build(read_facts(X101), 2).backbone.body.layer2[0]
    assert (first.conv1.stride, first.conv2.stride) == ((1, 1), (2, 2))
    assert (first.conv2.groups, first.conv2.in_channels) == (32, 512)


def test_input_is_normalised_in_rgb() -> None:
    transform = build(read_facts(X101), 2).transform
    assert transform.image_mean == [123.675 / 255, 116.28 / 255, 103.53 / 255]
    assert transform.image_std == [58.395 / 255, 57.12 / 255, 57.375 / 255]
    same = build(replace(read_facts(X101), input_format="RGB"), 2).transform
    assert same.image_mean == [103.53 / 255, 116.28 / 255, 123.675 / 255]


def test_the_first_convolution_is_of_rgb_in_whatever_order_it_adds_up() -> None:
    ours = build(read_facts(R50), 2).backbone.body.conv1
    theirs = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
    theirs.load_state_dict(ours.state_dict())
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(ours(x), theirs(x), atol=1e-5)
    assert torch.equal(ours(x), nn.functional.conv2d(x.flip(1), ours.weight.flip(1), stride=2, padding=3))


def test_frozen_norm_is_torchvisions_and_learns_nothing() -> None:
    theirs, ours = FrozenBatchNorm2d(4), FrozenNorm(4)
    for name, values in {"running_mean": 3.0, "running_var": 2.0, "weight": 0.5, "bias": -1.0}.items():
        theirs.get_buffer(name).fill_(values)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(ours(x), theirs(x), atol=1e-6)
    assert ours(x.bfloat16()).dtype == torch.bfloat16 and not list(ours.parameters())


@pytest.mark.parametrize(("freeze_at", "learning"), [(0, ["conv1", "layer1"]), (1, ["layer1"]), (2, [])])
def test_the_first_stages_are_frozen(freeze_at: int, learning: list[str]) -> None:
    body = build(replace(read_facts(R50), freeze_at=freeze_at), 2).backbone.body
    found = {name.split(".")[0] for name, parameter in body.named_parameters() if parameter.requires_grad}
    assert found == {*learning, "layer2", "layer3", "layer4"}
    assert not [layer for layer in body.modules() if isinstance(layer, nn.BatchNorm2d)]


def test_batch_norm_that_learns_is_the_usual_one() -> None:
    body = build(replace(read_facts(R50), norm="SyncBN"), 2).backbone.body
    assert isinstance(body.bn1, nn.BatchNorm2d) and not body.bn1.weight.requires_grad
    assert body.layer4[0].bn1.weight.requires_grad


def proposals(network: nn.Module, logits: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    boxes = torch.tensor([[[0.0, 0, 20, 20], [1, 1, 20, 20], [40, 40, 60, 60], [90, 90, 95, 95]]])
    found, scores = network.eval().filter_proposals(boxes, torch.tensor([[x] for x in logits]), [(80, 80)], [4])
    return found[0], scores[0]


def test_the_surest_proposals_keep_their_order() -> None:
    rpn = build(read_facts(R50), 2).rpn
    assert isinstance(rpn, LogitProposals)
    boxes, logits = proposals(rpn, [40.0, 41.0, 42.0, 43.0])
    assert logits.tolist() == [42, 41], "as probabilities all are 1; the last one lies outside of the image"
    assert boxes.tolist() == [[40, 40, 60, 60], [1, 1, 20, 20]]


def test_a_fast_look_leaves_out_what_is_no_object() -> None:
    rpn = build(read_facts(R50), 2).rpn
    rpn.score_thresh = 0.5
    assert proposals(rpn, [1.0, -1.0, -0.1, 2.0])[1].tolist() == [1]


def test_own_input_sizes_and_anchors_are_taken_over() -> None:
    config = EngineConfig(R50, image_size=(128, 200), anchor_sizes=(8.0, 16, 32, 64, 128))
    network = build_network(config, 2)
    generator = network.rpn.anchor_generator
    assert isinstance(generator, FixedStrideAnchors) and generator.sizes[0] == (8.0,)
    assert (network.transform.min_size, network.transform.max_size) == ((128,), 200)
    assert find_network(R50).scaling is DETECTRON2
    assert input_range(read_facts(R50)) == find_network(R50).input


def test_images_are_scaled_as_detectron2_does_it() -> None:
    engine = TorchvisionEngine(("leaf",), EngineConfig(R50, image_size=(128, 200)))
    assert engine.scaling is DETECTRON2 and engine.training_size_hw == (128, 200)


def test_exact_predictions_add_up_in_detectron2s_order_and_all_else_in_the_fast_one() -> None:
    engine = TorchvisionEngine(("leaf",), EngineConfig(R50, image_size=(64, 96)))
    layouts = []
    engine.network.backbone.body.register_forward_pre_hook(lambda _, given: layouts.append(given[0].is_contiguous()))
    image = np.zeros((64, 96, 3), np.uint8)
    engine.encode([image], exact=True)
    engine.encode([image])
    box = Target(torch.tensor([[8.0, 8, 40, 40]]), torch.tensor([0]), torch.ones(1, 64, 96, dtype=torch.uint8))
    engine.losses([torch.zeros(3, 64, 96)], [box])
    assert layouts == [True, False, False]
