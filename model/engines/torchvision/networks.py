"""The torchvision engine's networks: one builder per name, all with MaskAL's dropout positions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.rpn import RegionProposalNetwork

from model.engines.base import EngineConfig, InputRange, Keeping
from model.engines.detectron2.configs import ZOO, Facts, facts_of, is_config, read_facts
from model.engines.dropout import DropoutConvHead, DropoutMaskPredictor, DropoutPredictor, DropoutTwoMLPHead
from model.engines.torchvision import detectron2_networks, timm_networks
from model.engines.torchvision.anchors import SteadyAnchors
from model.engines.torchvision.heads import ASPECT_RATIOS, SCALES, mask_rcnn, plain_anchors, poolers
from model.engines.torchvision.mask_room import MASK_ROOM
from model.engines.torchvision.overlaps import overlaps
from model.engines.torchvision.timm_networks import TimmBackbone, TimmFacts
from model.errors import BadEngine
from model.scaling import AREA, DETECTRON2, Scaling

NORM_IS_FROZEN = "norm_is_frozen"
"""A flag among the weights: batch norm keeps its statistics in training, as is usual from pretrained weights on."""


@dataclass(frozen=True)
class Network:
    """A builder (foreground classes -> MaskRCNN without weights), its input, and torchvision's COCO weights if any.

    input                None if there is no choice
    has_sturdy_features  bfloat16 in backbone and proposals does not change which images are the least certain
    scaling              how images get the size of the input
    anchors              one size a level, pixels of the input -> generator
    facts                what a Detectron2 config says of it, None for torchvision's own networks
    timm                 what timm tells of its backbone, None where that is not timm's
    keeping              what training leaves as it was where it starts from pretrained weights
    mask_room            a mask is looked for in so many times its box, and sets that right; 1: in the box alone, and
                         learned there
    """

    build: Callable[[int], MaskRCNN]
    input: InputRange | None
    coco_weights: MaskRCNN_ResNet50_FPN_Weights | MaskRCNN_ResNet50_FPN_V2_Weights | None = None
    has_sturdy_features: bool = True
    scaling: Scaling = AREA
    anchors: Callable[[Sequence[float]], AnchorGenerator] = plain_anchors
    facts: Facts | None = None
    timm: TimmFacts | None = None
    keeping: Keeping = field(default_factory=Keeping)
    mask_room: float = 1.0

    @property
    def is_exact_as_detectron2(self) -> bool:
        """Whether an exact prediction is Detectron2's to the last digits."""
        return self.facts is not None


def nano(num_classes: int) -> MaskRCNN:
    """A small Mask R-CNN that trains from nothing in a minute or two on a CPU.

    ResNet-18 and an FPN of width 64, images of at most 256 px, 100 proposals; for demos, tests and
    machines without a GPU. Batch norm is trainable.
    """
    width, sizes = 64, tuple((s,) for s in (16, 32, 64, 128, 192))
    layers = {"layer1": "0", "layer2": "1", "layer3": "2", "layer4": "3"}
    return mask_rcnn(
        BackboneWithFPN(resnet18(weights=None), layers, [64, 128, 256, 512], width),
        num_classes,
        SCALES["small"],
        box_channels=256,
        mask_channels=width,
        rpn_anchor_generator=AnchorGenerator(sizes, (ASPECT_RATIOS,) * len(sizes)),
    )


def train_mode(network: MaskRCNN) -> None:
    """Put a network into training mode, all but its batch norm where that is frozen, with its stage or everywhere."""
    network.train()
    is_frozen = bool(network.get_buffer(NORM_IS_FROZEN))
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d) and (is_frozen or not _is_trained(layer)):
            layer.eval()


def _is_trained(layer: nn.BatchNorm2d) -> bool:
    return layer.weight is None or layer.weight.requires_grad


def _resnet50(num_classes: int) -> MaskRCNN:
    return maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=num_classes + 1, **poolers())


def _resnet50_v2(num_classes: int) -> MaskRCNN:
    return maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=num_classes + 1, **poolers())


def detectron2_network(facts: Facts) -> Network:
    """Detectron2's Mask R-CNN as a config describes it."""
    return Network(
        partial(detectron2_networks.build, facts),
        detectron2_networks.input_range(facts),
        scaling=DETECTRON2,
        anchors=lambda sizes: detectron2_networks.anchors(facts, [(size,) for size in sizes]),
        facts=facts,
        keeping=Keeping(max(facts.freeze_at, 0)),
    )


SMALL, LARGE = SCALES["small"].input, SCALES["large"].input
SMALL_AND_FROZEN = replace(SMALL, largest=640, visible=12)
"""What training leaves as it was knows objects that fill an image: small ones need more pixels."""


def timm_network(facts: TimmFacts) -> Network:
    """A Mask R-CNN on one of timm's backbones.

    Its features do not count as sturdy, as nobody has measured whether bfloat16 changes the order of the images.
    """
    return Network(
        partial(timm_networks.build, facts),
        SMALL_AND_FROZEN if facts.scale == "small" else LARGE,
        has_sturdy_features=False,
        timm=facts,
        keeping=Keeping(freeze_at=3, backbone_rate=0.1),
        mask_room=MASK_ROOM,
    )


THREE_OF_FIVE = Keeping(freeze_at=2)
"""Stem and first stage stay as they are: torchvision's own default for pretrained weights."""

NETWORKS = {
    "lite": timm_network(timm_networks.LITE),
    "nano": Network(nano, SMALL, has_sturdy_features=False, mask_room=MASK_ROOM),
    "maskrcnn_resnet50_fpn": Network(_resnet50, LARGE, MaskRCNN_ResNet50_FPN_Weights.COCO_V1, keeping=THREE_OF_FIVE),
    "maskrcnn_resnet50_fpn_v2": Network(
        _resnet50_v2, LARGE, MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1, keeping=THREE_OF_FIVE
    ),
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
    network.rpn.box_similarity = overlaps
    _leave_room(network.rpn, config.detections_per_image)
    network.register_buffer(NORM_IS_FROZEN, torch.tensor(False))
    return network


def _leave_room(rpn: RegionProposalNetwork, objects: int) -> None:
    """Let a network that should find more objects than usual propose as many places, of twice as many candidates."""
    if objects > EngineConfig.detections_per_image:
        rpn._pre_nms_top_n["testing"] = max(rpn._pre_nms_top_n["testing"], 2 * objects)
        rpn._post_nms_top_n["testing"] = max(rpn._post_nms_top_n["testing"], objects)


def find_network(name: str, facts: Mapping[str, Any] | None = None) -> Network:
    """The network of that name: the table's, or with `facts` what was told of it; BadEngine where there is none."""
    if timm_networks.is_timm(name) and (facts is not None or name not in NETWORKS):
        return timm_network(timm_networks.facts_for(name) if facts is None else timm_networks.facts_of(facts))
    if facts is not None:
        return detectron2_network(facts_of(facts))
    if name in NETWORKS:
        return NETWORKS[name]
    if is_config(name):
        return detectron2_network(read_facts(name))
    raise BadEngine(
        f"network_config must be one of {', '.join(NETWORKS)}, a backbone of timm's such as timm/resnet50, or a "
        f"Detectron2 config, got {name!r}"
    )


def with_facts(config: EngineConfig) -> EngineConfig:
    """The config with what timm or its network's own file says, so that it can be built without them."""
    if config.network_facts is not None:
        return config
    if timm_networks.is_timm(config.network):
        return replace(config, network_facts=timm_networks.facts_for(config.network).as_json())
    if config.network in NETWORKS or not is_config(config.network):
        return config
    return replace(config, network_facts=read_facts(config.network).as_json())


def backbone_stages(network: MaskRCNN) -> list[list[nn.Parameter]]:
    """The backbone's parameters by depth, without the pyramid: the stem, then each stage of a ResNet or of timm's."""
    backbone = network.backbone
    if isinstance(backbone, TimmBackbone):
        return backbone.stages()
    body = backbone.body
    parts = [nn.ModuleList([body.conv1, body.bn1]), body.layer1, body.layer2, body.layer3, body.layer4]
    return [list(part.parameters()) for part in parts]


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
