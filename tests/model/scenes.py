"""Images of rectangles, as truth and as what a model might find in them."""

from __future__ import annotations

import numpy as np

from model.instances import Instances
from model.judging.evaluation import Detections, Truth, detections_of

SIZE_HW = (64, 64)


def _instances(boxes_xyxy, labels, scores, size_hw) -> Instances:
    masks = np.zeros((len(boxes_xyxy), *size_hw), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes_xyxy, strict=True):
        mask[y0:y1, x0:x1] = True
    return Instances(
        boxes_xyxy=np.array(boxes_xyxy, np.float32).reshape(-1, 4),
        scores=np.array(scores, np.float32),
        labels=np.array(labels, np.int64),
        softmaxes=np.zeros((len(labels), 1), np.float32),
        masks=masks,
    )


def boxes_to_truth(boxes_xyxy, labels, size_hw=SIZE_HW) -> Truth:
    """Filled boxes as annotated objects."""
    objects = detections_of(_instances(boxes_xyxy, labels, np.ones(len(labels)), size_hw))
    return Truth(size_hw, objects.labels, objects.rles)


def boxes_to_detections(boxes_xyxy, labels, scores, size_hw=SIZE_HW) -> Detections:
    """Filled boxes as detected objects."""
    return detections_of(_instances(boxes_xyxy, labels, scores, size_hw))


def random_scenes(
    seed: int, *, images: int, classes: int, objects: int = 8, shift_px: int = 3, score_decimals: int = 9
) -> tuple[list[Truth], list[Detections]]:
    """Random boxes, and for each 0 to 2 boxes found near it, one in five with a random label."""
    random = np.random.default_rng(seed)
    truths, found = [], []
    for _ in range(images):
        n = random.integers(0, objects + 1)
        corner, extent = random.integers(0, 40, (n, 2)), random.integers(6, 24, (n, 2))
        labels = random.integers(0, classes, n)
        truths.append(boxes_to_truth(np.concatenate([corner, corner + extent], 1), labels))
        times = np.repeat(np.arange(n), random.integers(0, 3, n))
        corner = np.maximum(corner[times] + random.integers(-shift_px, shift_px + 1, (len(times), 2)), 0)
        extent = extent[times] + random.integers(-shift_px, shift_px + 1, (len(times), 2))
        renamed = np.where(random.random(len(times)) < 0.2, random.integers(0, classes, len(times)), labels[times])
        scores = random.random(len(times)).round(score_decimals)
        found.append(boxes_to_detections(np.concatenate([corner, corner + extent], 1), renamed, scores))
    return truths, found
