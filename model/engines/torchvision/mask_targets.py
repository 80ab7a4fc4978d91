"""Masks to learn from, where torchvision looks for them.

Its mask loss reads them with a RoIAlign that takes the first pixel's centre for the image's corner. A mask head learns
so to outline everything half a pixel of the input up and to the left, while boxes are exact and masks are pasted
exactly: of an object of 8 pixels the best that can be learned has an IoU of 0.8 then. Detectron2's masks are aligned.
"""

from __future__ import annotations

from typing import Any

import torch


def at_corners(masks: torch.Tensor) -> torch.Tensor:
    """Masks (n, h, w) uint8, 0 or 1, at the corners of their pixels: (n, h + 1, w + 1) float16 in 0..1."""
    n, h, w = masks.shape
    sums = masks.new_zeros(n, h + 1, w + 1)
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        sums[:, down : down + h, right : right + w] += masks
    sums[:, [0, -1]] *= 2  # pixels on the rim count for those beyond it
    sums[:, :, [0, -1]] *= 2
    return sums.half().div_(4)


def with_masks_at_corners(heads: torch.nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    """A hook before torchvision's heads, (features, proposals, sizes, targets): the targets' masks at the corners."""
    *others, targets = given
    if targets is None:
        return given
    return *others, [{**target, "masks": at_corners(target["masks"])} for target in targets]
