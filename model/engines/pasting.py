"""Masks from the mask head's square grid into the image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch.nn.functional import grid_sample
from torchvision.ops import clip_boxes_to_image

from model.geometry import box_of, without_specks
from model.instances import Instances

FINEST = 28
"""Cells along a side of the mask head's output, which spans an object's box."""


def paste_masks(probabilities: torch.Tensor, boxes_xyxy: torch.Tensor, size_hw: tuple[int, int]) -> np.ndarray:
    """Masks (n, h, w) bool from mask probabilities (n, m, m) and boxes (n, 4) in pixels of that grid.

    Bilinear at the pixels' centres over the unrounded box and cut at >= 0.5; only the box's own window
    is computed. Outside of its box a mask is empty.
    """
    masks = np.zeros((len(boxes_xyxy), *size_hw), bool)
    probabilities, device = probabilities.float(), probabilities.device
    for mask, probability, (x0, y0, x1, y1) in zip(masks, probabilities, boxes_xyxy.tolist(), strict=True):
        left, top = max(int(np.floor(x0)), 0), max(int(np.floor(y0)), 0)
        right, bottom = min(int(np.ceil(x1)), size_hw[1]), min(int(np.ceil(y1)), size_hw[0])
        if right <= left or bottom <= top or x1 <= x0 or y1 <= y0:
            continue
        xs = (torch.arange(left, right, device=device) + 0.5 - x0) / (x1 - x0) * 2 - 1
        ys = (torch.arange(top, bottom, device=device) + 0.5 - y0) / (y1 - y0) * 2 - 1
        grid = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1)  # (h, w, 2)
        pasted = grid_sample(probability[None, None], grid[None], align_corners=False)[0, 0]
        mask[top:bottom, left:right] = (pasted >= 0.5).cpu().numpy()
    return masks


def enlarged(boxes_xyxy: torch.Tensor, times: float | torch.Tensor, size_hw: tuple[int, int]) -> torch.Tensor:
    """Boxes (n, 4) so many times as wide and high around their middle, cut at the rim of an image of that size.

    `times` may be one for each, (n, 1). By 1 they stay as they are, to the bit.
    """
    if isinstance(times, float) and times == 1:
        return boxes_xyxy
    middle, half = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2, (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]) * times / 2
    return clip_boxes_to_image(torch.cat([middle - half, middle + half], 1), size_hw)


def with_boxes_of_masks(found: Instances) -> Instances:
    """The same objects with the boxes around their masks, which lie in their own; an empty mask's box stays."""
    boxes = found.boxes_xyxy.copy()
    for mask, box in zip(found.masks, boxes, strict=True):
        left, top = np.floor(box[:2]).astype(int)
        right, bottom = np.ceil(box[2:]).astype(int)
        window = np.ascontiguousarray(mask[top:bottom, left:right])  # a whole image of 24 megapixels takes its time
        if window.any():
            box[:] = box_of(window) + np.array([left, top, left, top])
    return replace(found, boxes_xyxy=boxes)


def smooth(mask: np.ndarray, box_xyxy: np.ndarray) -> np.ndarray:
    """A mask (h, w) bool without what is finer than the mask head's grid, which is noise and tedious to correct."""
    return without_specks(mask, 1.5 * float(np.max(box_xyxy[2:] - box_xyxy[:2])) / FINEST)


COARSEST = 192
"""Cells along an image's longest side that a grid always has."""


def paste_coarse(
    probabilities: torch.Tensor, boxes_xyxy: torch.Tensor, size_hw: tuple[int, int]
) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """`paste_masks` on a grid that is only as fine as the mask head's own, each mask cut to its box.

    Boxes (n, 4) in the image's pixels; masks (h, w) bool and their corners (n, 2), row and column on the grid. The
    typical object has as many cells as the mask head gives it; no cell is smaller than a pixel.
    """
    boxes = boxes_xyxy.float().cpu().numpy()
    scale = _cells_per_pixel(boxes, size_hw)
    grid_hw = np.maximum(np.round(np.array(size_hw) * scale), 1)
    values = probabilities.float().cpu().numpy()
    masks, corners = [], np.zeros((len(boxes), 2), int)
    for index, (x0, y0, x1, y1) in enumerate((boxes * scale).tolist()):
        top, rows = _weights(y0, y1, grid_hw[0], values.shape[1])
        left, columns = _weights(x0, x1, grid_hw[1], values.shape[2])
        masks.append(rows @ values[index] @ columns.T >= 0.5)  # (h, m) @ (m, m) @ (m, w) -> (h, w)
        corners[index] = top, left
    return tuple(masks), corners


def _cells_per_pixel(boxes_xyxy: np.ndarray, size_hw: tuple[int, int]) -> float:
    coarsest = COARSEST / max(size_hw)
    if not len(boxes_xyxy):
        return min(1.0, coarsest)
    sides = np.sqrt(np.maximum(np.prod(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], axis=1), 1))
    return min(1.0, max(coarsest, FINEST / float(np.median(sides))))


def _weights(start: float, end: float, cells: float, values: int) -> tuple[int, np.ndarray]:
    """First cell that an interval covers, and for each covered cell the weights (h, values) that interpolate there."""
    first, last = max(int(np.floor(start)), 0), min(int(np.ceil(end)), int(cells))
    if end <= start or last <= first:
        return first, np.zeros((0, values), np.float32)
    positions = (np.arange(first, last) + 0.5 - start) / (end - start) * values - 0.5
    return first, np.maximum(0, 1 - np.abs(positions[:, None] - np.arange(values))).astype(np.float32)
