"""The certainty of an observation and of an image, as MaskAL computes it (Blok et al. 2022).

What the original calls uncertainty is a certainty: 1 means that all passes agree. Arithmetic is float32
as in the original.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sampling.observations import GROUPING, CroppedMask, Crops, Observation, Pass, crop_masks, intersection

SUPPORT = np.float32(0.25)
"""Share of an observation's masks that must hold a pixel for it to belong to their mean mask."""

MODES: dict[str, Callable[[np.ndarray], np.floating]] = {"mean": np.mean, "min": np.min, "max": np.max}
"""How an image's value follows from those of its observations."""


@dataclass(frozen=True)
class ObservationCertainty:
    """The four factors of one object's certainty, each 0..1; mask is NaN if all member masks are empty."""

    semantic: float
    box: float
    mask: float
    occurrence: float

    @property
    def certainty(self) -> float:
        """The product of the four, 0..1 or NaN."""
        product = (
            np.float32(self.semantic) * (np.float32(self.mask) * np.float32(self.box)) * np.float32(self.occurrence)
        )
        return float(product)


def semantic_certainties(softmaxes: np.ndarray) -> np.ndarray:
    """1 - normalised entropy of each row, (n, c) -> (n,); with one class the probability itself."""
    softmaxes = softmaxes.astype(np.float32)
    classes = softmaxes.shape[1]
    if classes == 1:
        return softmaxes[:, 0]
    rows = softmaxes / softmaxes.sum(1, keepdims=True)
    logs = np.log(rows, where=rows > 0, out=np.zeros_like(rows))
    entropy = -(rows * logs).sum(1)  # (n, c) -> (n,), nats
    return np.asarray(1 - entropy / np.log(np.float32(classes)), np.float32)


def semantic_certainty(softmaxes: np.ndarray) -> float:
    """How sure and how much of one mind the class probabilities (n, c) are: the mean over the members, 0..1."""
    return float(np.clip(semantic_certainties(softmaxes).mean(), 0, 1))


def box_ious(boxes_xyxy: np.ndarray) -> np.ndarray:
    """IoU of each box (n, 4) with the mean box, (n,); a box of x1 = x2 is one pixel wide (+1 convention)."""
    boxes = boxes_xyxy.astype(np.float32)
    mean = boxes.mean(0)
    shared = np.maximum(np.minimum(boxes[:, 2:], mean[2:]) - np.maximum(boxes[:, :2], mean[:2]) + 1, 0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2] + 1).prod(1)
    return np.asarray(shared / (areas + (mean[2:] - mean[:2] + 1).prod() - shared), np.float32)


def box_certainty(boxes_xyxy: np.ndarray) -> float:
    """Agreement of the boxes (n, 4), pixels: the mean IoU with their mean box, 0..1."""
    return float(np.clip(box_ious(boxes_xyxy).sum() / np.float32(len(boxes_xyxy)), 0, 1))


def mask_ious(masks: Sequence[CroppedMask]) -> np.ndarray:
    """IoU of each mask with the mean mask's support, (n,); NaN where both are empty."""
    windows = [mask.window for mask in masks if mask.area]
    if not windows:
        return np.full(len(masks), np.nan, np.float32)
    top, left = min(w[0] for w in windows), min(w[2] for w in windows)
    bottom, right = max(w[1] for w in windows), max(w[3] for w in windows)
    votes = np.zeros((bottom - top, right - left), np.float32)
    for mask in masks:
        if mask.area:
            votes[mask.window[0] - top : mask.window[1] - top, mask.window[2] - left : mask.window[3] - left] += (
                mask.pixels
            )
    pixels = votes / np.float32(len(masks)) >= SUPPORT
    support = CroppedMask(pixels, (top, bottom, left, right), int(pixels.sum()))
    shared = np.array([intersection(support, mask) for mask in masks], np.float32)
    union = np.array([support.area + mask.area for mask in masks], np.float32) - shared
    ious = np.full(len(masks), np.nan, np.float32)
    np.divide(shared, union, out=ious, where=union > 0)
    return ious


def mask_certainty(masks: Sequence[CroppedMask]) -> float:
    """Agreement of the masks: the mean IoU with their mean mask's support, 0..1; NaN if all are empty.

    Members whose union with the support is empty add nothing and are still counted, as in the original.
    """
    ious = mask_ious(masks)
    if np.isnan(ious).all():
        return float("nan")
    return float(np.clip(np.nansum(ious) / np.float32(len(ious)), 0, 1))


def occurrence(seen: int, passes: int) -> float:
    """Share of the dropout passes in which the object was found, 0..1; more members than passes count as 1.

    Raises ValueError if passes < 1.
    """
    if passes < 1:
        raise ValueError(f"occurrence needs at least 1 pass, got {passes}")
    return float(np.clip(np.float32(seen) / np.float32(passes), 0, 1))


def observation_certainty(observation: Observation, passes: Sequence[Pass], crops: Crops) -> ObservationCertainty:
    """The four factors of one observation of these passes, whose masks are cropped already."""
    members = observation.members
    return ObservationCertainty(
        semantic=semantic_certainty(np.stack([passes[t].softmaxes[i] for t, i in members])),
        box=box_certainty(np.stack([passes[t].boxes_xyxy[i] for t, i in members])),
        mask=mask_certainty([crops[t][i] for t, i in members]),
        occurrence=occurrence(len(members), len(passes)),
    )


def image_certainty(
    passes: Sequence[Pass], *, iou_threshold: float = 0.5, mode: str = "mean", exact: bool = True
) -> float:
    """Certainty of an image over its observations, 0..1, by mode "mean", "min" or "max"; NaN without any detection.

    With `exact` all is as published, with its two faults: which detections are one object depends on the
    order of the passes, and the value is NaN in every mode if one observation's masks are all empty, so that
    such an image can never be chosen. Otherwise groups are formed by score, and an observation without a
    single mask pixel has the certainty 0.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    crops = crop_masks(passes)
    observations = GROUPING[exact](passes, crops, iou_threshold)
    found = [observation_certainty(o, passes, crops).certainty for o in observations]
    values = np.array(found, np.float32)
    if not exact:
        values = np.nan_to_num(values, nan=0.0)
    return float(MODES[mode](values)) if len(values) else float("nan")


def class_counts(passes: Sequence[Pass]) -> np.ndarray:
    """Objects of each class that a pass finds in the mean, (c,) float32; each detection counts by its probabilities."""
    return np.asarray(sum(found.softmaxes.sum(0) for found in passes) / len(passes), np.float32)
