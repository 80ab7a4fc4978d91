"""The torchvision engine's networks: one builder per name, all with MaskAL's dropout positions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.models.detection import (
    MaskRCNN,
    MaskRCNN_ResNet50_FPN_V2_Weights,
    MaskRCNN_ResNet50_FPN_Weights,
    maskrcnn_resnet50_fpn,
    maskrcnn_resnet50_fpn_v2,
)
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from model.engines.base import EngineConfig, InputRange
from model.engines.detectron2.configs import ZOO, Facts, facts_of, is_config, read_facts
from model.engines.dropout import DropoutConvHead, DropoutMaskPredictor, DropoutPredictor, DropoutTwoMLPHead
from model.engines.torchvision import detectron2_networks
from model.engines.torchvision.anchors import SteadyAnchors
from model.errors import BadEngine
from model.scaling import AREA, DETECTRON2, Scaling

NORM_IS_FROZEN = "norm_is_frozen"
"""A flag among the weights: batch norm keeps its statistics in training, as is usual from pretrained weights on."""


ASPECT_RATIOS = (0.5, 1.0, 2.0)


def plain_anchors(sizes: Sequence[float]) -> AnchorGenerator:
    """torchvision's anchors, one size a level, pixels of the input."""
    return SteadyAnchors(tuple((size,) for size in sizes), (ASPECT_RATIOS,) * len(sizes))


@dataclass(frozen=True)
class Network:
    """A builder (foreground classes -> MaskRCNN without weights), its input, and torchvision's COCO weights if any.

    input                None if there is no choice
    has_sturdy_features  bfloat16 in backbone and proposals does not change which images are the least certain
    scaling              how images get the size of the input
    anchors              one size a level, pixels of the input -> generator
    facts                what a Detectron2 config says of it, None for torchvision's own networks
    """

    build: Callable[[int], MaskRCNN]
    input: InputRange | None
    coco_weights: MaskRCNN_ResNet50_FPN_Weights | MaskRCNN_ResNet50_FPN_V2_Weights | None = None
    has_sturdy_features: bool = True
    scaling: Scaling = AREA
    anchors: Callable[[Sequence[float]], AnchorGenerator] = plain_anchors
    facts: Facts | None = None

    @property
    def is_exact_as_detectron2(self) -> bool:
        """Whether an exact prediction is Detectron2's to the last digits."""
        return self.facts is not None


def nano(num_classes: int) -> MaskRCNN:
    """A small Mask R-CNN that trains from nothing in a minute or two on a CPU.

    ResNet-18 and an FPN of width 64, images of at most 256 px, 100 proposals; for demos, tests and
    machines without a GPU. Batch norm is trainable.
    """
    width, size = 64, 256
    layers = {"layer1": "0", "layer2": "1", "layer3": "2", "layer4": "3"}
    backbone = BackboneWithFPN(resnet18(weights=None), layers, [64, 128, 256, 512], width)
    sizes = tuple((s,) for s in (16, 32, 64, 128, 192))
    return MaskRCNN(
        backbone,
        num_classes=None,
        min_size=192,
        max_size=size,
        rpn_anchor_generator=AnchorGenerator(sizes, (ASPECT_RATIOS,) * len(sizes)),
        rpn_pre_nms_top_n_train=400,
        rpn_post_nms_top_n_train=150,
        rpn_pre_nms_top_n_test=200,
        rpn_post_nms_top_n_test=100,
        rpn_batch_size_per_image=128,
        box_batch_size_per_image=48,
        box_head=TwoMLPHead(width * 7 * 7, 256),
        box_predictor=FastRCNNPredictor(256, num_classes + 1),
        mask_head=MaskRCNNHeads(width, (width,) * 4, 1),
        mask_predictor=MaskRCNNPredictor(width, width, num_classes + 1),
    )


def train_mode(network: MaskRCNN) -> None:
    """Put a network into training mode, all but its batch norm where that is frozen."""
    network.train()
    if network.get_buffer(NORM_IS_FROZEN):
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eval()


def _resnet50(num_classes: int) -> MaskRCNN:
    return maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=num_classes + 1)


def _resnet50_v2(num_classes: int) -> MaskRCNN:
    return maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=num_classes + 1)


SMALL = InputRange(shortest=192, longest=256, largest=512, visible=8, anchor=16)
LARGE = InputRange(shortest=800, longest=1333, largest=1667, visible=16, anchor=32)


def detectron2_network(facts: Facts) -> Network:
    """Detectron2's Mask R-CNN as a config describes it."""
    return Network(
        partial(detectron2_networks.build, facts),
        detectron2_networks.input_range(facts),
        scaling=DETECTRON2,
        anchors=lambda sizes: detectron2_networks.anchors(facts, [(size,) for size in sizes]),
        facts=facts,
    )


NETWORKS = {
    "nano": Network(nano, SMALL, has_sturdy_features=False),
    "maskrcnn_resnet50_fpn": Network(_resnet50, LARGE, MaskRCNN_ResNet50_FPN_Weights.COCO_V1),
    "maskrcnn_resnet50_fpn_v2": Network(_resnet50_v2, LARGE, MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1),
    **{name: detectron2_network(read_facts(name)) for name in ZOO},
}


def build_network(config: EngineConfig, num_classes: int) -> MaskRCNN:
    """The network for so many foreground classes, with dropout in its heads; BadEngine for an unknown name."""
    chosen = find_network(config.network, config.network_facts)
    network = chosen.build(num_classes)
    add_dropout(network, num_classes, config.dropout_probability)
    if config.image_size is not None:
        shortest, network.transform.max_size = config.image_size
        network.transform.min_size = (shortest,)
    usual = network.rpn.anchor_generator
    if config.anchor_sizes is not None:
        network.rpn.anchor_generator = chosen.anchors(config.anchor_sizes)
    elif not isinstance(usual, SteadyAnchors):
        network.rpn.anchor_generator = SteadyAnchors(usual.sizes, usual.aspect_ratios)
    network.register_buffer(NORM_IS_FROZEN, torch.tensor(False))
    return network


def find_network(name: str, facts: Mapping[str, Any] | None = None) -> Network:
    """The network of that name: the table's, or with `facts` what its config said; BadEngine where there is none."""
    if facts is not None:
        return detectron2_network(facts_of(facts))
    if name in NETWORKS:
        return NETWORKS[name]
    if is_config(name):
        return detectron2_network(read_facts(name))
    raise BadEngine(f"network_config must be one of {', '.join(NETWORKS)}, or a Detectron2 config, got {name!r}")


def with_facts(config: EngineConfig) -> EngineConfig:
    """The config with what its network's own file says, so that it can be built without the file."""
    if config.network_facts is not None or config.network in NETWORKS or not is_config(config.network):
        return config
    return replace(config, network_facts=read_facts(config.network).as_json())


def add_dropout(network: MaskRCNN, num_classes: int, p: float) -> None:
    """Replace the heads of a torchvision Mask R-CNN by those with MaskAL's dropout, in place."""
    heads = network.roi_heads
    if isinstance(heads.box_head, TwoMLPHead):
        fc6 = heads.box_head.fc6
        heads.box_head = DropoutTwoMLPHead(fc6.in_features, fc6.out_features, p)
    else:
        heads.box_head = DropoutConvHead(heads.box_head, p)
    heads.box_predictor = DropoutPredictor(heads.box_predictor.cls_score.in_features, num_classes + 1, p)
    deconv = heads.mask_predictor.conv5_mask
    heads.mask_predictor = DropoutMaskPredictor(deconv.in_channels, deconv.out_channels, num_classes + 1, p)
