"""Grouping the instances of several dropout passes into observations: the ones that are the same object.

Blok et al. 2022 (MaskAL); the grouping follows Morrison et al. 2019. There are two ways: the published
one, whose groups depend on the order of the passes, and one by score, whose groups do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

Window = tuple[int, int, int, int]


class Pass(Protocol):
    """What one dropout pass found in an image, best score first."""

    @property
    def boxes_xyxy(self) -> np.ndarray:
        """(n, 4) float, pixels of the original image."""
        ...

    @property
    def softmaxes(self) -> np.ndarray:
        """(n, c) foreground probabilities, not renormalised."""
        ...

    @property
    def scores(self) -> np.ndarray:
        """(n,) float, probability of the likeliest class."""
        ...

    @property
    def masks(self) -> Iterable[np.ndarray]:
        """n bool masks (h, w), each cut to any window of a grid that all passes share."""
        ...

    @property
    def corners_yx(self) -> np.ndarray:
        """(n, 2) int, where on that grid each mask's top left cell lies."""
        ...


@dataclass(frozen=True)
class Observation:
    """One object: its members as (pass, detection), in the order in which they joined."""

    members: tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class CroppedMask:
    """A mask cut to the window that holds all its pixels; the window is (top, bottom, left, right)."""

    pixels: np.ndarray
    window: Window
    area: int


Crops = tuple[tuple[CroppedMask, ...], ...]
"""By pass and detection."""


def crop(mask: np.ndarray, corner_yx: tuple[int, int] = (0, 0)) -> CroppedMask:
    """Cut a (h, w) bool mask that lies at a corner of its grid to its pixels; an empty mask gets an empty window."""
    rows = np.flatnonzero(mask.any(1))
    if not len(rows):
        return CroppedMask(np.zeros((0, 0), bool), (0, 0, 0, 0), 0)
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(mask[top:bottom].any(0))
    left, right = int(columns[0]), int(columns[-1]) + 1
    pixels = mask[top:bottom, left:right]
    y, x = corner_yx
    return CroppedMask(pixels, (top + y, bottom + y, left + x, right + x), int(np.count_nonzero(pixels)))


def crop_masks(passes: Sequence[Pass]) -> Crops:
    """Every mask cut to its pixels, by pass and detection; views, so next to no memory."""
    return tuple(
        tuple(crop(mask, (int(y), int(x))) for mask, (y, x) in zip(found.masks, found.corners_yx, strict=True))
        for found in passes
    )


def intersection(a: CroppedMask, b: CroppedMask) -> int:
    """Number of pixels that two masks share; looks only where their windows overlap."""
    top, bottom = max(a.window[0], b.window[0]), min(a.window[1], b.window[1])
    left, right = max(a.window[2], b.window[2]), min(a.window[3], b.window[3])
    if top >= bottom or left >= right:
        return 0
    cut_a = a.pixels[top - a.window[0] : bottom - a.window[0], left - a.window[2] : right - a.window[2]]
    cut_b = b.pixels[top - b.window[0] : bottom - b.window[0], left - b.window[2] : right - b.window[2]]
    return int(np.count_nonzero(cut_a & cut_b))


def group(passes: Sequence[Pass], iou_threshold: float = 0.5, *, exact: bool = True) -> tuple[Observation, ...]:
    """The observations of these passes, by `group_in_order` if `exact`, else by `group_by_score`."""
    return GROUPING[exact](passes, crop_masks(passes), iou_threshold)


def group_in_order(passes: Sequence[Pass], crops: Crops, iou_threshold: float) -> tuple[Observation, ...]:
    """The published grouping: observations in the order in which their first members were met.

    Passes in order, detections by score: a detection joins the first group whose *first member* has a
    mask IoU above the threshold with it, otherwise it opens a group. Equal does not join, the class does
    not matter, two detections of one pass may share a group, and two empty masks (0/0) join.
    """
    groups: list[list[tuple[int, int]]] = []
    firsts: list[CroppedMask] = []
    for t, found in enumerate(crops):
        for i, cropped in enumerate(found):
            joined = next((g for g, first in enumerate(firsts) if _joins(_iou(first, cropped), iou_threshold)), None)
            if joined is None:
                groups.append([])
                firsts.append(cropped)
                joined = len(groups) - 1
            groups[joined].append((t, i))
    return tuple(Observation(tuple(members)) for members in groups)


def group_by_score(passes: Sequence[Pass], crops: Crops, iou_threshold: float) -> tuple[Observation, ...]:
    """The same rule without its dependence on the order of the passes.

    Detections of all passes by score: each joins the group whose first member (the best score of that
    object) it overlaps *most*, if that is above the threshold, otherwise it opens a group.
    """
    members = [(t, i) for t, found in enumerate(crops) for i in range(len(found))]
    best_first = sorted(members, key=lambda m: (-passes[m[0]].scores[m[1]], *passes[m[0]].boxes_xyxy[m[1]]))
    groups: list[list[tuple[int, int]]] = []
    firsts = _Firsts(len(members))
    for t, i in best_first:
        ious = firsts.ious(crops[t][i])
        closest = int(np.argmax(ious)) if len(ious) else -1
        if closest < 0 or not _joins(ious[closest], iou_threshold):
            firsts.add(crops[t][i])
            groups.append([])
            closest = len(groups) - 1
        groups[closest].append((t, i))
    return tuple(Observation(tuple(sorted(members))) for members in groups)


class _Firsts:
    """The groups' first members, with their windows as one array, as most of them are far from any detection."""

    def __init__(self, most: int) -> None:
        self.masks: list[CroppedMask] = []
        self.windows = np.zeros((most, 4), int)

    def add(self, mask: CroppedMask) -> None:
        self.windows[len(self.masks)] = mask.window
        self.masks.append(mask)

    def ious(self, mask: CroppedMask) -> np.ndarray:
        """IoU of a mask with each first member, (groups,) float32."""
        known = self.windows[: len(self.masks)]
        top, bottom, left, right = mask.window
        near = (known[:, 0] < bottom) & (known[:, 1] > top) & (known[:, 2] < right) & (known[:, 3] > left)
        ious = np.zeros(len(known), np.float32)
        for g in range(len(known)) if mask.area == 0 else np.flatnonzero(near):
            ious[g] = _iou(self.masks[g], mask)
        return ious


GROUPING: dict[bool, Callable[[Sequence[Pass], Crops, float], tuple[Observation, ...]]] = {
    True: group_in_order,
    False: group_by_score,
}
"""By whether the published behaviour is wanted to the digit."""


def _iou(a: CroppedMask, b: CroppedMask) -> np.float32:
    """Shared share of two masks; two empty ones count as the same."""
    shared = intersection(a, b)
    union = a.area + b.area - shared
    return np.float32(shared) / np.float32(union) if union else np.float32(np.inf)


def _joins(iou: np.float32, threshold: float) -> bool:
    # Both sides float32, so that an IoU of 3/10 equals a threshold of 0.3 with every NumPy.
    return bool(iou > np.float32(threshold))
