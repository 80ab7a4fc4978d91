"""Grouping the instances of several dropout passes into observations: the ones that are the same object.

Blok et al. 2022 (MaskAL); the grouping follows Morrison et al. 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    def masks(self) -> np.ndarray:
        """(n, h, w) bool, the same grid in all passes."""
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


def crop(mask: np.ndarray) -> CroppedMask:
    """Cut a (h, w) bool mask to its pixels; an empty mask gets an empty window."""
    rows = np.flatnonzero(mask.any(1))
    if not len(rows):
        return CroppedMask(np.zeros((0, 0), bool), (0, 0, 0, 0), 0)
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(mask[top:bottom].any(0))
    left, right = int(columns[0]), int(columns[-1]) + 1
    pixels = mask[top:bottom, left:right]
    return CroppedMask(pixels, (top, bottom, left, right), int(np.count_nonzero(pixels)))


def crop_masks(passes: Sequence[Pass]) -> tuple[tuple[CroppedMask, ...], ...]:
    """Every mask cut to its pixels, by pass and detection; views, so next to no memory."""
    return tuple(tuple(crop(mask) for mask in found.masks) for found in passes)


def intersection(a: CroppedMask, b: CroppedMask) -> int:
    """Number of pixels that two masks share; looks only where their windows overlap."""
    top, bottom = max(a.window[0], b.window[0]), min(a.window[1], b.window[1])
    left, right = max(a.window[2], b.window[2]), min(a.window[3], b.window[3])
    if top >= bottom or left >= right:
        return 0
    cut_a = a.pixels[top - a.window[0] : bottom - a.window[0], left - a.window[2] : right - a.window[2]]
    cut_b = b.pixels[top - b.window[0] : bottom - b.window[0], left - b.window[2] : right - b.window[2]]
    return int(np.count_nonzero(cut_a & cut_b))


def group(passes: Sequence[Pass], iou_threshold: float = 0.5) -> tuple[Observation, ...]:
    """Observations in the order in which their first members were met.

    Passes in order, detections by score: a detection joins the first group whose *first member* has a
    mask IoU above the threshold with it, otherwise it opens a group. Equal does not join, the class does
    not matter, two detections of one pass may share a group, and two empty masks (0/0) join.
    """
    return group_crops(crop_masks(passes), iou_threshold)


def group_crops(crops: Sequence[Sequence[CroppedMask]], iou_threshold: float) -> tuple[Observation, ...]:
    """`group` for masks that are cropped already."""
    groups: list[list[tuple[int, int]]] = []
    firsts: list[CroppedMask] = []
    for pass_index, found in enumerate(crops):
        for index, cropped in enumerate(found):
            joined = next((g for g, first in enumerate(firsts) if _joins(first, cropped, iou_threshold)), None)
            if joined is None:
                groups.append([])
                firsts.append(cropped)
                joined = len(groups) - 1
            groups[joined].append((pass_index, index))
    return tuple(Observation(tuple(members)) for members in groups)


def _joins(first: CroppedMask, other: CroppedMask, threshold: float) -> bool:
    shared = intersection(first, other)
    union = first.area + other.area - shared
    # Both sides float32, so that an IoU of 3/10 equals a threshold of 0.3 with every NumPy.
    return union == 0 or bool(np.float32(shared) / np.float32(union) > np.float32(threshold))
