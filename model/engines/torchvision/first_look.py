"""Which proposals could matter to a dropout pass, judged by one look without dropout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torchvision.ops import box_iou

MIN_FOREGROUND = 0.4
"""A proposal whose foreground probability is below this share of the confidence threshold hardly ever passes it."""

RIVALS = 6
"""A proposal that so many better ones overlap is hardly ever the best of them in a pass."""

OVERLAP = 0.4
"""Box IoU from which on two proposals are rivals."""

MOST = 300
"""So many proposals are sampled at most, or as many as objects are looked for, where these are more."""

FEW = 100
"""So many proposals, as small networks make, cost next to nothing: only those without any foreground are left out."""

MIN_FOREGROUND_OF_FEW = 0.04


@dataclass(frozen=True, eq=False)
class FirstLook:
    """What the box head says of all proposals without dropout: the raw material of the ordinary prediction.

    probabilities  (n, c) foreground probabilities
    boxes          (n, c, 4) in the resized image's pixels
    proposals      (n, 4) themselves, likewise
    """

    probabilities: torch.Tensor
    boxes: torch.Tensor
    proposals: torch.Tensor


def has_foreground(look: FirstLook, confidence_threshold: float = 0.5) -> torch.Tensor:
    """Whether each proposal (n,) shows enough of any class for a pass to find it there."""
    least = MIN_FOREGROUND_OF_FEW if len(look.boxes) <= FEW else MIN_FOREGROUND
    return look.probabilities.sum(1) > least * confidence_threshold


def joined(looks: Sequence[FirstLook]) -> FirstLook:
    """One look at the proposals of several."""
    columns = ("probabilities", "boxes", "proposals")
    return FirstLook(*(torch.cat([getattr(look, name) for look in looks]) for name in columns))


def worth_sampling(look: FirstLook, confidence_threshold: float = 0.5, objects: int = 0) -> torch.Tensor:
    """Rows (m,) of the proposals worth sampling, the ones with most foreground first.

    Those with some foreground that have few better rivals; of few proposals nearly all. What is found in one pass of
    fifty lowers a certainty too, so every proposal that is left out costs agreement with the exact scores.
    """
    foreground = look.probabilities.sum(1)
    are_few = len(foreground) <= FEW
    rows = torch.nonzero(has_foreground(look, confidence_threshold))[:, 0]
    rows = rows[foreground[rows].argsort(descending=True, stable=True)]
    if are_few or not len(rows):
        return rows
    scores, labels = look.probabilities[rows].max(1)
    boxes = look.boxes[rows, labels]
    are_better = (box_iou(boxes, boxes) > OVERLAP) & (scores > scores[:, None])  # (m, m)
    return rows[are_better.sum(1) < RIVALS][: max(MOST, objects)]
