"""Detectron2's Mask R-CNN built of torchvision's parts: the same numbers from the same weights.

What torchvision has otherwise is replaced: the stride stands in the 1x1 convolution of a block where the config says
so, batch norm is frozen, RoIAlign is aligned, anchors are neither rounded nor moved with the image's size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import batch_norm
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.ops import FrozenBatchNorm2d, batched_nms, clip_boxes_to_image

from model.engines.base import InputRange
from model.engines.detectron2.configs import Facts
from model.engines.torchvision.anchors import SteadyAnchors
from model.engines.torchvision.pooling import FINEST_OCTAVE, FixedStrideRoIAlign

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Residual blocks of each stage by depth."""

POOLED_LEVELS = ("0", "1", "2", "3")


class FrozenNorm(FrozenBatchNorm2d):
    """Batch norm that learns nothing, in one operation, so that bfloat16 stays bfloat16."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) -> (n, c, h, w)."""
        return batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class BgrConvolution(nn.Conv2d):
    """A convolution of RGB that adds its channels up as blue, green, red: in Detectron2's order, to the last digit."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w), red first -> (n, c, h', w'); the weights are for red first too."""
        return self._conv_forward(x.flip(1), self.weight.flip(1), self.bias)


class FixedStrideAnchors(SteadyAnchors):
    """Anchors of exactly the sizes that were asked for, on grids with strides of 4, 8, 16, ... pixels."""

    def __init__(
        self, sizes: Sequence[Sequence[float]], aspect_ratios: Sequence[Sequence[float]], offset: float
    ) -> None:
        self.offset = offset
        super().__init__(tuple(map(tuple, sizes)), tuple(map(tuple, aspect_ratios)))

    def generate_anchors(
        self, scales: Sequence[float], aspect_ratios: Sequence[float], *args: object, **options: object
    ) -> torch.Tensor:
        """Anchors around the origin, all ratios (height / width) of the first size before the next: (n, 4)."""
        anchors = []
        for size in scales:
            for ratio in aspect_ratios:
                width = math.sqrt(size * size / ratio)
                anchors.append((-width / 2, -ratio * width / 2, width / 2, ratio * width / 2))
        return torch.tensor(anchors)

    def grid_anchors(self, grid_sizes: Sequence[tuple[int, int]], strides: object) -> list[torch.Tensor]:
        """Anchors of each level, (h * w * n, 4) in pixels of the input, row by row."""
        levels = []
        for level, ((height, width), anchors) in enumerate(zip(grid_sizes, self.cell_anchors, strict=True)):
            stride = 2 ** (FINEST_OCTAVE + level)
            ys, xs = (
                (torch.arange(cells, device=anchors.device, dtype=torch.float32) + self.offset) * stride
                for cells in (height, width)
            )
            y, x = torch.meshgrid(ys, xs, indexing="ij")
            centres = torch.stack([x, y, x, y], dim=-1).view(-1, 1, 4)
            levels.append((centres + anchors).reshape(-1, 4))
        return levels


class LogitProposals(RegionProposalNetwork):
    """Proposals in the order of their logits: as probabilities the surest ones would all be 1."""

    def filter_proposals(
        self,
        proposals: torch.Tensor,
        objectness: torch.Tensor,
        image_shapes: Sequence[tuple[int, int]],
        num_anchors_per_level: Sequence[int],
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Boxes (b, n, 4) and logits of all anchors -> per image the boxes (m, 4) to look at and their logits (m,)."""
        logits = objectness.detach().view(len(proposals), -1).split(list(num_anchors_per_level), dim=1)
        boxes = proposals.detach().split(list(num_anchors_per_level), dim=1)
        best = [values.topk(min(self.pre_nms_top_n(), values.shape[1]), dim=1) for values in logits]
        levels = torch.cat([torch.full_like(top.indices[0], level) for level, top in enumerate(best)])
        found = []
        for image, size_hw in enumerate(image_shapes):
            scores = torch.cat([top.values[image] for top in best])
            candidates = torch.cat([own[image, top.indices[image]] for own, top in zip(boxes, best, strict=True)])
            candidates = clip_boxes_to_image(candidates, size_hw)
            has_size = (candidates[:, 2:] > candidates[:, :2]).all(1)
            usable = torch.nonzero(has_size & (scores.sigmoid() >= self.score_thresh))[:, 0]
            kept = batched_nms(candidates[usable], scores[usable], levels[usable], self.nms_thresh)
            kept = usable[kept[: self.post_nms_top_n()]]
            found.append((candidates[kept], scores[kept]))
        return [boxes for boxes, _ in found], [scores for _, scores in found]


def build(facts: Facts, num_classes: int) -> MaskRCNN:
    """A network as the facts say, with random weights, for so many foreground classes."""
    channels, bins = facts.fpn_channels, facts.box_bins
    mask_channels = (facts.mask_channels,) * facts.mask_convolutions
    mean, std = (_in_rgb(values, facts.input_format) for values in (facts.pixel_mean, facts.pixel_std))
    network = MaskRCNN(
        _backbone(facts),
        num_classes=None,
        min_size=facts.shortest,
        max_size=facts.longest,
        image_mean=mean,
        image_std=std,
        rpn_anchor_generator=anchors(facts, facts.anchor_sizes),
        box_batch_size_per_image=facts.box_batch,
        box_roi_pool=_pooler(bins, facts.box_samples, facts.box_pooler),
        box_head=TwoMLPHead(channels * bins * bins, facts.box_channels),
        box_predictor=FastRCNNPredictor(facts.box_channels, num_classes + 1),
        mask_roi_pool=_pooler(facts.mask_bins, facts.mask_samples, facts.mask_pooler),
        mask_head=MaskRCNNHeads(channels, mask_channels, 1),
        mask_predictor=MaskRCNNPredictor((channels, *mask_channels)[-1], facts.mask_channels, num_classes + 1),
    )
    network.rpn = _proposals(facts, network.rpn)
    return network


def anchors(facts: Facts, sizes: Sequence[Sequence[float]]) -> FixedStrideAnchors:
    """The network's anchors with other sizes for each level, pixels of the input."""
    return FixedStrideAnchors(sizes, facts.aspect_ratios, facts.anchor_offset)


def input_range(facts: Facts) -> InputRange | None:
    """What input the network can take; None where its anchors are not one size a level, each twice the last."""
    firsts = [sizes[0] for sizes in facts.anchor_sizes]
    if any(len(sizes) != 1 for sizes in facts.anchor_sizes):
        return None
    if any(size != firsts[0] * 2**level for level, size in enumerate(firsts)):
        return None
    largest = round(facts.longest * 1.25)
    return InputRange(facts.shortest, facts.longest, largest, visible=firsts[0] / 2, anchor=round(firsts[0]))


def _proposals(facts: Facts, usual: RegionProposalNetwork) -> LogitProposals:
    return LogitProposals(
        usual.anchor_generator,
        usual.head,
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=facts.rpn_batch,
        positive_fraction=0.5,
        pre_nms_top_n={"training": facts.rpn_candidates_train, "testing": facts.rpn_candidates},
        post_nms_top_n={"training": facts.rpn_proposals_train, "testing": facts.rpn_proposals},
        nms_thresh=facts.rpn_nms_threshold,
    )


def _backbone(facts: Facts) -> BackboneWithFPN:
    norm = FrozenNorm if facts.norm == "FrozenBN" else nn.BatchNorm2d
    resnet = ResNet(
        Bottleneck, BLOCKS[facts.depth], groups=facts.groups, width_per_group=facts.group_width, norm_layer=norm
    )
    if facts.input_format == "BGR":
        resnet.conv1 = _in_bgr(resnet.conv1)
    stages = [resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4]
    for first in (stage[0] for stage in stages if facts.stride_in_1x1):
        first.conv1.stride, first.conv2.stride = first.conv2.stride, first.conv1.stride
    frozen = [nn.ModuleList([resnet.conv1, resnet.bn1]), *stages][: max(facts.freeze_at, 0)]
    for parameter in (p for part in frozen for p in part.parameters()):
        parameter.requires_grad_(False)
    layers = {f"layer{i}": str(i - 1) for i in range(1, 5)}
    return BackboneWithFPN(resnet, layers, [256, 512, 1024, 2048], facts.fpn_channels)


def _in_bgr(usual: nn.Conv2d) -> BgrConvolution:
    """A ResNet's first convolution with its channels in the other order."""
    first = BgrConvolution(3, usual.out_channels, 7, stride=2, padding=3, bias=False)
    first.weight = usual.weight
    return first


def _pooler(bins: int, samples: int, kind: str) -> FixedStrideRoIAlign:
    return FixedStrideRoIAlign(POOLED_LEVELS, bins, samples, is_aligned=kind == "ROIAlignV2")


def _in_rgb(values: Sequence[float], input_format: str) -> list[float]:
    """Three numbers of 0..255 in the order of a format, as torchvision has them: red first, of 0..1."""
    ordered = values[::-1] if input_format == "BGR" else values
    return [value / 255 for value in ordered]
