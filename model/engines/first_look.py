"""Which proposals could matter to a dropout pass, judged by one look without dropout."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torchvision.ops import box_iou, nms

MIN_FOREGROUND = 0.1
"""A proposal with less foreground probability than this hardly ever passes the confidence threshold in a pass."""

SAME_OBJECT = 0.5
"""Box IoU from which on two proposals are about the same object."""

MOST_PER_OBJECT = 4
MOST = 300

FEW = 100
"""So many proposals, as small networks make, cost next to nothing: only those without any foreground are left out."""

MIN_FOREGROUND_OF_FEW = 0.02


@dataclass(frozen=True, eq=False)
class FirstLook:
    """What the box head says of all proposals without dropout: the raw material of the ordinary prediction.

    probabilities  (n, c) foreground probabilities
    boxes          (n, c, 4) in the resized image's pixels
    """

    probabilities: torch.Tensor
    boxes: torch.Tensor


@dataclass(frozen=True, eq=False)
class Worth:
    """The proposals worth sampling.

    rows        (m,) of the proposals, the ones with most foreground first
    objects     (k, 4) boxes of the objects that they seem to show, in the resized image's pixels
    belongs_to  (m,) the object of each row
    """

    rows: torch.Tensor
    objects: torch.Tensor
    belongs_to: torch.Tensor


def worth_sampling(look: FirstLook) -> Worth:
    """Those with some foreground, of each object the best few; of few proposals nearly all.

    What is found in one pass of fifty lowers a certainty too, so every proposal that is left out costs agreement
    with the exact scores.
    """
    foreground = look.probabilities.sum(1)
    are_few = len(foreground) <= FEW
    rows = torch.nonzero(foreground > (MIN_FOREGROUND_OF_FEW if are_few else MIN_FOREGROUND))[:, 0]
    rows = rows[foreground[rows].argsort(descending=True, stable=True)]
    boxes = look.boxes[rows, look.probabilities[rows].argmax(1)]
    objects = boxes[nms(boxes, foreground[rows], SAME_OBJECT)]
    if not len(objects):
        return Worth(rows, objects, rows)
    belongs_to = box_iou(boxes, objects).argmax(1)  # (m, k) -> (m,)
    if are_few:
        return Worth(rows, objects, belongs_to)
    better_ones = (belongs_to[:, None] == belongs_to[None]).tril(-1).sum(1)
    kept = torch.nonzero(better_ones < MOST_PER_OBJECT)[:MOST, 0]
    return Worth(rows[kept], objects, belongs_to[kept])
