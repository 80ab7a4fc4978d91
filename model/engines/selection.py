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

LEAST_FILLED = 0.2
"""Share of its box that a mask of all classes together fills; one below is of a class that the object is not."""


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


def masks_of_any_class(masks: torch.Tensor, probabilities: torch.Tensor) -> torch.Tensor:
    """Mask probabilities (n, m, m) of objects whatever their class, from those of each class, (n, c, m, m).

    The mean over the classes, weighted by their probabilities (n, c). Now and then the likeliest class is a wrong one
    that sees only specks of the object, and so does the mean: where that fills hardly anything of its box, the class
    alone which fills most of it outlines the object, each class counted by its probability.
    """
    shares = probabilities / probabilities.sum(1, keepdim=True)
    mean = torch.einsum("nc,nchw->nhw", shares, masks)
    fullest = (shares * masks.where(masks >= 0.5, 0.0).mean((2, 3))).argmax(1)
    is_specks = (mean >= 0.5).float().mean((1, 2)) < LEAST_FILLED
    rows = torch.arange(len(masks), device=masks.device)
    return torch.where(is_specks[:, None, None], masks[rows, fullest], mean)


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
