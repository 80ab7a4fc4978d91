"""Masks from the mask head's square grid into the image."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import grid_sample


def paste_masks(probabilities: torch.Tensor, boxes_xyxy: torch.Tensor, size_hw: tuple[int, int]) -> np.ndarray:
    """Masks (n, h, w) bool from mask probabilities (n, m, m) and boxes (n, 4) in pixels of that grid.

    Bilinear at the pixels' centres over the unrounded box and cut at >= 0.5; only the box's own window
    is computed. Outside of its box a mask is empty.
    """
    masks = np.zeros((len(boxes_xyxy), *size_hw), bool)
    probabilities, boxes_xyxy = probabilities.float().cpu(), boxes_xyxy.float().cpu()
    for mask, probability, box in zip(masks, probabilities, boxes_xyxy, strict=True):
        x0, y0, x1, y1 = (float(v) for v in box)
        left, top = max(int(np.floor(x0)), 0), max(int(np.floor(y0)), 0)
        right, bottom = min(int(np.ceil(x1)), size_hw[1]), min(int(np.ceil(y1)), size_hw[0])
        if right <= left or bottom <= top or x1 <= x0 or y1 <= y0:
            continue
        xs = (torch.arange(left, right) + 0.5 - x0) / (x1 - x0) * 2 - 1
        ys = (torch.arange(top, bottom) + 0.5 - y0) / (y1 - y0) * 2 - 1
        grid = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1)  # (h, w, 2)
        pasted = grid_sample(probability[None, None], grid[None], align_corners=False)[0, 0]
        mask[top:bottom, left:right] = (pasted >= 0.5).numpy()
    return masks
