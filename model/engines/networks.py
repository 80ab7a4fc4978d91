"""The torchvision engine's networks: one builder per name, all with MaskAL's dropout positions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
from model.engines.dropout import DropoutConvHead, DropoutMaskPredictor, DropoutPredictor, DropoutTwoMLPHead
from model.errors import BadEngine

NORM_IS_FROZEN = "norm_is_frozen"
"""A flag among the weights: batch norm keeps its statistics in training, as is usual from pretrained weights on."""


ASPECT_RATIOS = (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Network:
    """A builder (foreground classes -> MaskRCNN without weights), its input, and torchvision's COCO weights if any.

    has_sturdy_features: bfloat16 in backbone and proposals does not change which images are the least certain
    """

    build: Callable[[int], MaskRCNN]
    input: InputRange
    coco_weights: MaskRCNN_ResNet50_FPN_Weights | MaskRCNN_ResNet50_FPN_V2_Weights | None = None
    has_sturdy_features: bool = True


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

NETWORKS = {
    "nano": Network(nano, SMALL, has_sturdy_features=False),
    "maskrcnn_resnet50_fpn": Network(_resnet50, LARGE, MaskRCNN_ResNet50_FPN_Weights.COCO_V1),
    "maskrcnn_resnet50_fpn_v2": Network(_resnet50_v2, LARGE, MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1),
}


def build_network(config: EngineConfig, num_classes: int) -> MaskRCNN:
    """The network for so many foreground classes, with dropout in its heads; BadEngine for an unknown name."""
    network = find_network(config.network).build(num_classes)
    add_dropout(network, num_classes, config.dropout_probability)
    if config.image_size is not None:
        shortest, network.transform.max_size = config.image_size
        network.transform.min_size = (shortest,)
    if config.anchor_sizes is not None:
        sizes = tuple((size,) for size in config.anchor_sizes)
        network.rpn.anchor_generator = AnchorGenerator(sizes, (ASPECT_RATIOS,) * len(sizes))
    network.register_buffer(NORM_IS_FROZEN, torch.tensor(False))
    return network


def find_network(name: str) -> Network:
    """The table's entry of that name; BadEngine where there is none."""
    try:
        return NETWORKS[name]
    except KeyError:
        raise BadEngine(f"network_config must be one of {', '.join(NETWORKS)}, got {name!r}") from None


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
