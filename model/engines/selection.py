"""From the heads' raw output to the detections of one pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torchvision.ops import nms

from model.instances import Proposals

LEAST_FOREGROUND = 0.05
"""Probability of all classes together from which on a place may be an object."""

MOST_PROPOSALS = 50
"""Places of an image that may be an object, the most likely ones."""


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


def propose_places(boxes: torch.Tensor, probabilities: torch.Tensor, nms_threshold: float) -> Selection:
    """What may be an object of any class, each place once; boxes and probabilities as in `select`."""
    return select(
        boxes,
        probabilities,
        confidence_threshold=LEAST_FOREGROUND,
        nms_threshold=nms_threshold,
        limit=MOST_PROPOSALS,
        any_class=True,
    )


def proposals_of(boxes_xyxy: torch.Tensor, probabilities: torch.Tensor) -> Proposals:
    """Proposals with boxes (n, 4) in the image's pixels and the probabilities (t, n, c) of several passes."""
    kept = (boxes_xyxy[:, 2:] > boxes_xyxy[:, :2]).all(1)  # a box beyond the image's rim is clipped to nothing
    mean = probabilities.float().mean(0)
    return Proposals(boxes_xyxy[kept].float().cpu().numpy(), mean[kept].cpu().numpy())
