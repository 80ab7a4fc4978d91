"""Mask R-CNN around a backbone with an FPN: its input, how many proposals it looks at, and how wide its heads are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from model.engines.base import InputRange
from model.engines.torchvision.anchors import SteadyAnchors
from model.engines.torchvision.pooling import TrainedRoIAlign

ASPECT_RATIOS = (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Scale:
    """How much a network looks at: its input, and torchvision's options for the numbers of proposals."""

    input: InputRange
    options: dict[str, Any] = field(default_factory=dict)


SCALES = {
    "small": Scale(
        InputRange(shortest=192, longest=256, largest=512, visible=8, anchor=16),
        {
            "rpn_pre_nms_top_n_train": 400,
            "rpn_post_nms_top_n_train": 150,
            "rpn_pre_nms_top_n_test": 200,
            "rpn_post_nms_top_n_test": 100,
            "rpn_batch_size_per_image": 128,
            "box_batch_size_per_image": 48,
        },
    ),
    "large": Scale(InputRange(shortest=800, longest=1333, largest=1667, visible=16, anchor=32)),
}
"""By name: images of at most 256 px and 100 proposals, for a CPU; and 800 to 1333 px with torchvision's 1000."""


def plain_anchors(sizes: Sequence[float]) -> AnchorGenerator:
    """torchvision's anchors, one size a level, pixels of the input."""
    return SteadyAnchors(tuple((size,) for size in sizes), (ASPECT_RATIOS,) * len(sizes))


def poolers() -> dict[str, TrainedRoIAlign]:
    """torchvision's options of what reads the levels in boxes, with its values."""
    levels = ["0", "1", "2", "3"]
    return {
        "box_roi_pool": TrainedRoIAlign(levels, output_size=7, sampling_ratio=2),
        "mask_roi_pool": TrainedRoIAlign(levels, output_size=14, sampling_ratio=2),
    }


def mask_rcnn(
    backbone: Any, num_classes: int, scale: Scale, *, box_channels: int, mask_channels: int, **options: Any
) -> MaskRCNN:
    """A network without weights, for so many foreground classes; the backbone gives five levels and `out_channels`."""
    width: int = backbone.out_channels
    return MaskRCNN(
        backbone,
        num_classes=None,
        min_size=scale.input.shortest,
        max_size=scale.input.longest,
        box_head=TwoMLPHead(width * 7 * 7, box_channels),
        box_predictor=FastRCNNPredictor(box_channels, num_classes + 1),
        mask_head=MaskRCNNHeads(width, (mask_channels,) * 4, 1),
        mask_predictor=MaskRCNNPredictor(mask_channels, mask_channels, num_classes + 1),
        **poolers(),
        **scale.options,
        **options,
    )
