"""The detections of several dropout passes: as one batch, and back as passes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from model.engines.pasting import paste_coarse
from model.engines.selection import Selection
from model.instances import CoarseInstances


def together(found: Sequence[Selection]) -> Selection:
    """The detections of several passes as one."""
    columns = ("proposals", "labels", "boxes_xyxy", "scores")
    return Selection(*(torch.cat([getattr(selection, name) for selection in found]) for name in columns))


def coarse_passes(
    found: Sequence[Selection],
    softmaxes: Sequence[torch.Tensor],
    masks: torch.Tensor,
    boxes: torch.Tensor,
    size_hw: tuple[int, int],
) -> tuple[CoarseInstances, ...]:
    """Passes with masks on one coarse grid; masks (n, m, m) and boxes (n, 4) are those of all passes together."""
    pasted, corners = paste_coarse(masks, boxes, size_hw)
    ends = np.cumsum([len(s.labels) for s in found])
    all_boxes = boxes.cpu().numpy()
    return tuple(
        CoarseInstances(
            boxes_xyxy=all_boxes[start:end],
            scores=selection.scores.cpu().numpy(),
            softmaxes=softmax_rows.cpu().numpy(),
            masks=pasted[start:end],
            corners_yx=corners[start:end],
        )
        for start, end, selection, softmax_rows in zip([0, *ends[:-1]], ends, found, softmaxes, strict=True)
    )
