"""From the heads' raw output to the detections of one pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torchvision.ops import nms


@dataclass(frozen=True, eq=False)
class Selection:
    """Selected detections, best score first: rows of the proposals, labels, boxes and scores, (n,) each."""

    proposals: torch.Tensor
    labels: torch.Tensor
    boxes_xyxy: torch.Tensor
    scores: torch.Tensor


def select(
    boxes: torch.Tensor,
    probabilities: torch.Tensor,
    *,
    confidence_threshold: float,
    nms_threshold: float,
    limit: int,
    any_class: bool = False,
) -> Selection:
    """MaskAL's selection: score above the threshold, one NMS across all classes, the best `limit`.

    boxes (n, c, 4) per proposal and class; probabilities (n, c), background cut off. A proposal enters
    once per class that passes the threshold, as in Detectron2's inference. Strictly greater scores pass.
    With `any_class` a proposal enters once, with its likeliest class, where its classes together pass.
    """
    if any_class:
        proposals = torch.nonzero(probabilities.sum(1) > confidence_threshold)[:, 0]
        labels = probabilities[proposals].argmax(1)
    else:
        proposals, labels = torch.nonzero(probabilities > confidence_threshold, as_tuple=True)
    scores = probabilities[proposals, labels]
    candidates = boxes[proposals, labels]
    kept = nms(candidates, scores, nms_threshold)[:limit]
    return Selection(proposals[kept], labels[kept], candidates[kept], scores[kept])
