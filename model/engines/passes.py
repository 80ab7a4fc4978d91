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
    """Passes with masks on one coarse grid; masks (n, m, m) and boxes (n, 4) are those of all passes together.

    A box beyond the image's rim, clipped to nothing, is left out.
    """
    pasted, corners = paste_coarse(masks, boxes, size_hw)
    all_boxes = boxes.cpu().numpy()
    scores = torch.cat([selection.scores for selection in found]).cpu().numpy()
    all_softmaxes = torch.cat(list(softmaxes)).cpu().numpy()
    has_size = (boxes[:, 2:] > boxes[:, :2]).all(1).cpu().numpy()
    ends = np.cumsum([len(s.labels) for s in found])
    passes = [start + np.flatnonzero(has_size[start:end]) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    return tuple(
        CoarseInstances(
            boxes_xyxy=all_boxes[rows],
            scores=scores[rows],
            softmaxes=all_softmaxes[rows],
            masks=tuple(pasted[row] for row in rows),
            corners_yx=corners[rows],
        )
        for rows in passes
    )
