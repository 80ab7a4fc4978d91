"""Whether one model is worse than another on the same images, beyond the chance of which images they were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from faster_coco_eval.core import mask as coco_mask

from model.judging.evaluation import IOU_THRESHOLDS, MAX_DETECTIONS, Detections, Truth, any_class, check_pairs

RECALLS = np.linspace(0.0, 1.0, 101)
MIN_IMAGES_WITH_OBJECTS = 5
"""Images that show an object, from which on chance can be told: of four, all get worse at once in one of 16 cases."""

FEWER = 3
"""A draw holds so many fewer than there are, which widens the bounds about as Student's t does for as few."""

BLOCK = 2_000_000  # draws times detections worked on at once, to bound the memory


@dataclass(frozen=True)
class Difference:
    """Mask AP of the new model minus that of the old one.

    observed       on the images as they are
    mean           over the bootstrap draws
    lower, upper   one-sided bounds: each is passed by the share 1 - confidence of the draws
    images         number of images
    """

    observed: float
    mean: float
    lower: float
    upper: float
    images: int


@dataclass(frozen=True)
class Intervals:
    """Between which two values mask AP lies with some confidence: over all classes, and of each; None if unknown."""

    overall: tuple[float, float] | None
    per_class: tuple[tuple[float, float] | None, ...]


@dataclass(frozen=True, eq=False)
class _Matches:
    """All detections of one class, best score first, matched image by image.

    images (n,) int: which image; hits (10, n) bool: matched at each IoU threshold; objects (images,) int: truth
    """

    images: np.ndarray
    hits: np.ndarray
    objects: np.ndarray


def ap_difference(
    truths: Sequence[Truth],
    old: Sequence[Detections],
    new: Sequence[Detections],
    num_classes: int,
    *,
    draws: int = 1000,
    seed: int,
    class_agnostic: bool = False,
    confidence: float = 0.95,
    groups: Sequence[str] | None = None,
) -> Difference | None:
    """Paired bootstrap over images of mask AP(new) - AP(old); None if no image holds an object.

    `groups` names each image's group, such as the plant that it shows: it is drawn as a whole, as all images of one
    plant say little more than one of them does.

    The bounds are one-sided (0.95: the 5th and the 95th percentile): `upper < 0` says that new is worse than old,
    wrongly so in about 5 % of the cases where it is not, from MIN_IMAGES_WITH_OBJECTS on. Both models see the same
    draws; a model compared with itself differs by exactly 0. A draw without any object is left out, and so is a class
    without truth in its draw.
    """
    check_pairs(truths, old)
    check_pairs(truths, new)
    if not any(len(truth.labels) for truth in truths):
        return None
    if class_agnostic:
        truths, old, new = [any_class(t) for t in truths], [any_class(d) for d in old], [any_class(d) for d in new]
        num_classes = 1
    images = len(truths)
    drawn = _drawn(truths, groups, draws, seed)
    times = np.concatenate([np.ones((1, images), np.int64), drawn])  # the first row: every image once
    difference = _average_precisions(truths, new, num_classes, times) - _average_precisions(
        truths, old, num_classes, times
    )
    resampled = difference[1:][~np.isnan(difference[1:])]
    lower, upper = np.quantile(resampled, [1 - confidence, confidence])
    return Difference(float(difference[0]), float(resampled.mean()), float(lower), float(upper), images)


def ap_intervals(
    truths: Sequence[Truth],
    found: Sequence[Detections],
    num_classes: int,
    *,
    draws: int = 1000,
    seed: int,
    confidence: float = 0.95,
    groups: Sequence[str] | None = None,
) -> Intervals:
    """Bootstrap over images, or groups of them, of one model's mask AP, the same share being cut off at both ends.

    None where fewer than MIN_IMAGES_WITH_OBJECTS images show an object, or one of the class.
    """
    check_pairs(truths, found)
    if images_with_objects(truths) < MIN_IMAGES_WITH_OBJECTS:
        return Intervals(None, (None,) * num_classes)
    times = _drawn(truths, groups, draws, seed)
    by_class = _precisions_by_class(truths, found, num_classes, times)
    is_shown = [sum(label in t.labels for t in truths) >= MIN_IMAGES_WITH_OBJECTS for label in range(num_classes)]
    per_class = tuple(
        _interval(row, confidence) if shown else None for row, shown in zip(by_class, is_shown, strict=True)
    )
    return Intervals(_interval(_class_means(by_class), confidence), per_class)


def images_with_objects(truths: Sequence[Truth]) -> int:
    """Number of images that show an object."""
    return sum(len(truth.labels) > 0 for truth in truths)


def _drawn(truths: Sequence[Truth], groups: Sequence[str] | None, draws: int, seed: int) -> np.ndarray:
    """How often each image counts in each draw: (draws, images) int; those of a group as often as one another.

    Each image is drawn by itself where fewer than MIN_IMAGES_WITH_OBJECTS groups show an object.
    """
    members: np.ndarray = np.arange(len(truths))
    if groups is not None:
        _, grouped = np.unique(list(groups), return_inverse=True)
        shown = {group for truth, group in zip(truths, grouped.tolist(), strict=True) if len(truth.labels)}
        members = grouped if len(shown) >= MIN_IMAGES_WITH_OBJECTS else members
    number = int(members.max()) + 1
    size = max(1, number - FEWER)
    drawn = np.random.default_rng(seed).multinomial(size, np.full(number, 1 / number), size=draws)
    return np.asarray(drawn[:, members])


def _interval(values: np.ndarray, confidence: float) -> tuple[float, float] | None:
    known = values[~np.isnan(values)]
    if not known.size:
        return None
    lower, upper = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(lower), float(upper)


def _average_precisions(
    truths: Sequence[Truth], detections: Sequence[Detections], num_classes: int, times: np.ndarray
) -> np.ndarray:
    """Mask AP for each row of `times` (b, images), which says how often each image counts: (b,), NaN without truth."""
    return _class_means(_precisions_by_class(truths, detections, num_classes, times))


def _class_means(by_class: np.ndarray) -> np.ndarray:
    """Mean over those classes that have truth: (classes, b) -> (b,), NaN where none has."""
    known = (~np.isnan(by_class)).sum(0)
    means: np.ndarray = np.divide(
        np.nan_to_num(by_class).sum(0), known, out=np.full(by_class.shape[1], np.nan), where=known > 0
    )
    return means


def _precisions_by_class(
    truths: Sequence[Truth], detections: Sequence[Detections], num_classes: int, times: np.ndarray
) -> np.ndarray:
    """Mask AP of each class for each row of `times` (b, images): (classes, b), NaN where there is no truth."""
    by_class = np.full((num_classes, len(times)), np.nan)
    for label in range(num_classes):
        matches = _match_class(truths, detections, label)
        rows = max(1, BLOCK // max(1, len(matches.images)))
        blocks = [_class_precisions(matches, times[start : start + rows]) for start in range(0, len(times), rows)]
        by_class[label] = np.concatenate(blocks)
    return by_class


def _match_class(truths: Sequence[Truth], detections: Sequence[Detections], label: int) -> _Matches:
    """Match the detections of one class in every image, and sort them by score over all images."""
    images, hits, scores, objects = [], [], [], []
    for image, (truth, found) in enumerate(zip(truths, detections, strict=True)):
        wanted, got = np.flatnonzero(truth.labels == label), np.flatnonzero(found.labels == label)
        got = got[np.argsort(-found.scores[got], kind="stable")][:MAX_DETECTIONS]
        objects.append(len(wanted))
        images.append(np.full(len(got), image))
        scores.append(found.scores[got].astype(float))
        rles = [found.rles[index] for index in got], [truth.rles[index] for index in wanted]
        ious = coco_mask.iou(*rles, [0] * len(wanted)) if len(got) and len(wanted) else np.zeros((len(got), 0))
        hits.append(_match_image(np.asarray(ious)))
    order = np.argsort(-np.concatenate(scores), kind="stable")
    return _Matches(np.concatenate(images)[order], np.concatenate(hits, axis=1)[:, order], np.array(objects))


def _match_image(ious: np.ndarray) -> np.ndarray:
    """COCO's matching: each detection in turn takes the object it fits best among those still free.

    ious (n detections, m objects), detections best first; returns (10, n) bool, matched at each IoU threshold.
    """
    hits = np.zeros((len(IOU_THRESHOLDS), len(ious)), bool)
    if not ious.size:
        return hits
    taken = np.zeros((len(IOU_THRESHOLDS), ious.shape[1]), bool)
    thresholds = np.arange(len(IOU_THRESHOLDS))
    for index in np.flatnonzero(ious.max(1) >= IOU_THRESHOLDS[0]):
        free = np.where(taken, -1.0, ious[index])  # (10, m)
        best = free.shape[1] - 1 - free[:, ::-1].argmax(1)  # COCO takes the last one of equals
        hits[:, index] = free[thresholds, best] >= IOU_THRESHOLDS
        taken[thresholds, best] |= hits[:, index]
    return hits


def _class_precisions(matches: _Matches, times: np.ndarray) -> np.ndarray:
    """AP of one class over the IoU thresholds for each row of `times` (b, images): (b,), NaN without truth."""
    objects = times @ matches.objects  # (b,)
    weights = times[:, matches.images]  # (b, n)
    found = weights.cumsum(1)
    precisions = np.zeros(len(times))
    for hits in matches.hits:
        at = np.flatnonzero(hits)  # precision can only peak, and recall only grow, at a hit
        if len(at):
            true = weights[:, at].cumsum(1)
            precisions += _interpolated(true / np.maximum(objects, 1)[:, None], true / np.maximum(found[:, at], 1))
    return np.where(objects > 0, precisions / len(matches.hits), np.nan)


def _interpolated(recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Mean over 101 recalls of the best precision at that recall or above: (b, n), (b, n) -> (b,)."""
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    envelope = np.pad(envelope, ((0, 0), (0, 1)))  # 0 where a recall is never reached
    return np.array([row[np.searchsorted(at, RECALLS)].mean() for row, at in zip(envelope, recall, strict=True)])
