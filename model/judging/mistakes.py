"""What a model got wrong in each image: objects that it missed, invented, or called by another name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from faster_coco_eval.core import mask as coco_mask

from model.judging.evaluation import Detections, Truth, check_pairs

MATCHING_IOU = 0.5


@dataclass(frozen=True)
class Mistakes:
    """One image: indices into its truth and its detections.

    right      (true, found) pairs of one label
    confused   (true, found) pairs of two labels
    missed     true objects that nothing was found of
    invented   detections where there is no object
    """

    right: tuple[tuple[int, int], ...]
    confused: tuple[tuple[int, int], ...]
    missed: tuple[int, ...]
    invented: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.confused) + len(self.missed) + len(self.invented)


def mistakes_in(truth: Truth, found: Detections, score_threshold: float) -> Mistakes:
    """Match the detections of at least that score with the true objects, whatever their labels.

    Each detection in turn, best score first, takes the free object that it overlaps most, at an IoU of at least 0.5.
    """
    order = np.argsort(-found.scores, kind="stable")
    order = order[found.scores[order] >= score_threshold]
    free = set(range(len(truth.labels)))
    pairs, invented = [], []
    ious = _ious(truth, found, order)
    for row, index in enumerate(order.tolist()):
        best = max(free, key=lambda other: float(ious[row, other]), default=None)
        if best is None or ious[row, best] < MATCHING_IOU:
            invented.append(index)
            continue
        free.discard(best)
        pairs.append((best, index))
    is_right = [truth.labels[true] == found.labels[index] for true, index in pairs]
    return Mistakes(
        right=tuple(pair for pair, right in zip(pairs, is_right, strict=True) if right),
        confused=tuple(pair for pair, right in zip(pairs, is_right, strict=True) if not right),
        missed=tuple(sorted(free)),
        invented=tuple(invented),
    )


def confusion_of(
    truths: Sequence[Truth], found: Sequence[Detections], mistakes: Sequence[Mistakes], num_classes: int
) -> np.ndarray:
    """How often each class (row) was found as each class (column): (c + 1, c + 1) int.

    The last column counts what was missed, the last row what was invented.
    """
    check_pairs(truths, found)
    table = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    for truth, seen, wrong in zip(truths, found, mistakes, strict=True):
        for true, index in (*wrong.right, *wrong.confused):
            table[truth.labels[true], seen.labels[index]] += 1
        for true in wrong.missed:
            table[truth.labels[true], num_classes] += 1
        for index in wrong.invented:
            table[num_classes, seen.labels[index]] += 1
    return table


def _ious(truth: Truth, found: Detections, order: np.ndarray) -> np.ndarray:
    """Mask IoU of the ordered detections (n) with the true objects (m): (n, m)."""
    if not len(order) or not truth.rles:
        return np.zeros((len(order), len(truth.rles)))
    seen = [found.rles[index] for index in order.tolist()]
    return np.asarray(coco_mask.iou(seen, list(truth.rles), [0] * len(truth.rles)))
