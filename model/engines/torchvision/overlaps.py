"""Overlaps of annotated boxes with all anchors, as training asks for them in each step."""

from __future__ import annotations

import torch
from torchvision.ops import box_area

AT_ONCE = {"cpu": 2**18, "cuda": 2**24}
"""Overlaps that are computed together: a CPU has them, with what they need, in its cache; a GPU waits for few."""


def overlaps(boxes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """IoU (n, m) of boxes (n, 4) and (m, 4), torchvision's to the last digit.

    That one passes over the whole table a dozen times: with a hundred objects and the anchors of 640 x 480 pixels it
    takes a CPU nine times as long, a sixth of a training step. And it has some ten tables at a time: with four hundred
    objects and the anchors of 1333 x 800 pixels more memory than many a GPU has left.
    """
    table = boxes.new_empty(len(boxes), len(others))
    left, top, right, bottom = others.T.contiguous()
    areas = box_area(others)
    at_once = max(1, AT_ONCE.get(boxes.device.type, AT_ONCE["cuda"]) // max(1, len(others)))
    for some, rows in zip(boxes.split(at_once), table.split(at_once), strict=True):
        widths = torch.minimum(some[:, 2:3], right).sub_(torch.maximum(some[:, 0:1], left)).clamp_(min=0)
        heights = torch.minimum(some[:, 3:4], bottom).sub_(torch.maximum(some[:, 1:2], top)).clamp_(min=0)
        torch.mul(widths, heights, out=rows)
        rows.div_((box_area(some)[:, None] + areas).sub_(rows))
    return table
