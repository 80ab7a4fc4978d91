from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.image_list import ImageList

from model.engines.base import EngineConfig
from model.engines.detectron2.configs import ZOO
from model.engines.dropout import Dropout
from model.engines.torchvision.networks import NETWORKS, NORM_IS_FROZEN, build_network, find_network, train_mode
from model.errors import BadEngine

NUM_CLASSES = 3
BOX_HEAD = ["box_head.drop6", "box_head.drop7"]
REST = [
    "box_predictor.drop_scores",
    "box_predictor.drop_boxes",
    "mask_predictor.drop5",
    "mask_predictor.drop_logits",
]
DROPOUTS = {
    "lite": BOX_HEAD + REST,
    "nano": BOX_HEAD + REST,
    "maskrcnn_resnet50_fpn": BOX_HEAD + REST,
    "maskrcnn_resnet50_fpn_v2": ["box_head.drop", *REST],  # four convolutions, then one fully connected layer
    **{name: BOX_HEAD + REST for name in ZOO},
}


@cache
def network(name: str) -> MaskRCNN:
    """A network that no test changes: building is slow."""
    torch.manual_seed(0)
    return build_network(EngineConfig(name, 0.3), NUM_CLASSES)


@cache
def stock(name: str) -> MaskRCNN:
    return NETWORKS[name].build(NUM_CLASSES)


def norms(made: nn.Module) -> list[nn.BatchNorm2d]:
    return [layer for layer in made.modules() if isinstance(layer, nn.BatchNorm2d)]


def test_every_network_is_checked() -> None:
    assert set(NETWORKS) == set(DROPOUTS)


@pytest.mark.parametrize("name", NETWORKS)
def test_dropout_layers_are_in_the_heads_and_nowhere_else(name: str) -> None:
    found = {path: m for path, m in network(name).named_modules() if isinstance(m, nn.Dropout)}
    assert sorted(found) == sorted(f"roi_heads.{path}" for path in DROPOUTS[name])
    assert all(isinstance(layer, Dropout) and layer.p == 0.3 for layer in found.values())


@pytest.mark.parametrize("name", NETWORKS)
def test_heads_have_one_output_per_class_and_the_background(name: str) -> None:
    heads = network(name).roi_heads
    assert heads.box_predictor.cls_score.out_features == NUM_CLASSES + 1
    assert heads.box_predictor.bbox_pred.out_features == (NUM_CLASSES + 1) * 4
    assert heads.mask_predictor.mask_fcn_logits.out_channels == NUM_CLASSES + 1


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_have_the_names_and_shapes_of_torchvision(name: str) -> None:
    ours = {key: value.shape for key, value in network(name).state_dict().items()}
    assert ours.pop(NORM_IS_FROZEN) == ()
    assert ours == {key: value.shape for key, value in stock(name).state_dict().items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_without_dropping_the_heads_work_as_torchvision_ones(name: str) -> None:
    ours, theirs = network(name).roi_heads, stock(name).roi_heads
    for part in ("box_head", "box_predictor", "mask_head", "mask_predictor"):
        getattr(theirs, part).load_state_dict(getattr(ours, part).state_dict())
    ours.eval(), theirs.eval()
    channels = network(name).backbone.out_channels
    with torch.no_grad():
        pooled = torch.randn((2, channels, 7, 7), generator=torch.Generator().manual_seed(0))
        for got, wanted in zip(
            ours.box_predictor(ours.box_head(pooled)), theirs.box_predictor(theirs.box_head(pooled)), strict=True
        ):
            assert torch.equal(got, wanted)
        assert torch.equal(ours.mask_predictor(ours.mask_head(pooled)), theirs.mask_predictor(theirs.mask_head(pooled)))


def test_the_nano_finds_its_own_in_an_image() -> None:
    made = build_network(EngineConfig("nano"), NUM_CLASSES).eval()
    with torch.no_grad():
        (found,) = made([torch.rand((3, 50, 70), generator=torch.Generator().manual_seed(0))])
    assert set(found) == {"boxes", "labels", "scores", "masks"}
    assert found["masks"].shape[1:] == (1, 50, 70)


@pytest.mark.parametrize("name", ["lite", "nano"])
def test_where_many_objects_are_looked_for_as_many_places_are_proposed(name: str) -> None:
    image = torch.rand((1, 3, 192, 256), generator=torch.Generator().manual_seed(0))
    counts = []
    for limit in (100, 400):
        torch.manual_seed(0)
        made = build_network(EngineConfig(name, detections_per_image=limit), 1).eval()
        with torch.no_grad():
            (boxes,), _ = made.rpn(ImageList(image, [(192, 256)]), made.backbone(image))
        counts.append(len(boxes))
    assert counts[0] == 100 and counts[1] > 200


def test_a_network_that_proposes_enough_stays_as_it_is() -> None:
    rpn = build_network(EngineConfig("maskrcnn_resnet50_fpn", detections_per_image=400), 1).eval().rpn
    assert (rpn.pre_nms_top_n(), rpn.post_nms_top_n()) == (1000, 1000)


def test_batch_norm_learns_at_first() -> None:
    made = build_network(EngineConfig("nano"), NUM_CLASSES).eval()
    assert not made.get_buffer(NORM_IS_FROZEN)
    train_mode(made)
    assert all(module.training for module in made.modules())


@pytest.mark.parametrize("frozen", [False, True])
def test_only_frozen_batch_norm_keeps_its_statistics_in_training(frozen: bool) -> None:
    made = build_network(EngineConfig("nano"), NUM_CLASSES).eval()
    made.get_buffer(NORM_IS_FROZEN).fill_(frozen)
    train_mode(made)
    assert {layer.training for layer in norms(made)} == {not frozen}
    assert all(module.training for module in made.modules() if not isinstance(module, nn.BatchNorm2d))
    before = norms(made)[0].running_mean.clone()
    made.backbone(torch.rand((1, 3, 64, 64)))
    assert torch.equal(norms(made)[0].running_mean, before) == frozen


@pytest.mark.parametrize("build", [find_network, lambda name: build_network(EngineConfig(name), 1)])
def test_an_unknown_network_names_the_known_ones(build: Callable[[str], object]) -> None:
    with pytest.raises(
        BadEngine,
        match=f"network_config must be one of {', '.join(NETWORKS)}, a backbone of timm's .* config, got 'vgg'",
    ):
        build("vgg")


def test_coco_weights_are_offered_for_the_large_networks_only() -> None:
    assert {name for name, network in NETWORKS.items() if network.coco_weights is not None} == {
        "maskrcnn_resnet50_fpn",
        "maskrcnn_resnet50_fpn_v2",
    }


@pytest.mark.parametrize("network", ["lite", "nano", "maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2"])
@pytest.mark.parametrize("sizes", [None, (12.5, 25.0, 50.0, 100.0, 200.0)])
def test_features_in_bfloat16_do_not_move_anchors(network: str, sizes: tuple[float, ...] | None) -> None:
    generator = build_network(EngineConfig(network, anchor_sizes=sizes), 2).rpn.anchor_generator
    images = ImageList(torch.zeros(1, 3, 800, 1344), [(800, 1344)])
    levels = [torch.zeros(1, 1, 800 // step, 1344 // step) for step in (4, 8, 16, 32, 64)]
    (wanted,) = generator(images, levels)
    for dtype in (torch.bfloat16, torch.float32):
        (found,) = generator(images, [level.to(dtype) for level in levels])
        assert torch.equal(found, wanted)
