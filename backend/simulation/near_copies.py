"""Near copies of photos, as a camera on a tractor takes them: the same plants a little later, from elsewhere."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from model.geometry import polygons_to_mask
from model.records import Outline, Polygon, Record
from model.training.augmentation import GROUND_RGB, Augmentation, moved

MAX_TURN_DEGREES = 3.0
MAX_CROP = 1.15
"""How much closer the camera may come, beyond what hides the corners of a turned photo."""

MAX_BLUR_PX = 1.2
"""Largest sigma of the blur."""

LIGHT = Augmentation(light=0.15)


@dataclass(frozen=True, eq=False)
class NearCopy:
    """A photo's near copy: what is annotated in it, and how its pixels are made from the photo's.

    placement   (2, 3) where a point of the photo goes, x and y in pixels
    blur_px     sigma of the blur
    light_seed  decides on brightness, contrast and saturation
    """

    record: Record
    original: str
    placement: np.ndarray
    blur_px: float
    light_seed: int

    def of(self, photo: np.ndarray) -> np.ndarray:
        """The copy of the original photo, both RGB uint8 (h, w, 3) and of one size."""
        image = moved(photo, self.placement, photo.shape[:2], GROUND_RGB)
        return cv2.GaussianBlur(LIGHT.relight(image, np.random.default_rng(self.light_seed)), (0, 0), self.blur_px)


def near_copies(record: Record, count: int) -> Iterator[NearCopy]:
    """So many copies of a photo, always the same for the same name; an object that is cut off altogether is gone."""
    for number in range(1, count + 1):
        rng = np.random.default_rng([zlib.crc32(record.image.encode()), number])
        placement = _placement(record.size_hw, rng)
        outlines = tuple(
            Outline(outline.label, parts)
            for outline in record.outlines
            if _is_visible(parts := tuple(_placed(part, placement) for part in outline.parts), record.size_hw)
        )
        copied = Record(f"{record.image}#{number}", record.size_hw, outlines)
        blur, light = float(rng.uniform(0.3, MAX_BLUR_PX)), int(rng.integers(2**31))
        yield NearCopy(copied, record.image, placement, blur, light)


def _placement(size_hw: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A slight turn and a crop (2, 3) that shows nothing from beside the photo."""
    height, width = size_hw
    angle = math.radians(rng.uniform(-MAX_TURN_DEGREES, MAX_TURN_DEGREES))
    cos, sin = math.cos(angle), math.sin(abs(angle))
    hiding = cos + sin * max(width / height, height / width)
    scale = hiding * rng.uniform(1.0, MAX_CROP)
    seen = np.array([width * cos + height * sin, height * cos + width * sin]) / scale  # of the photo, along x and y
    slack = np.maximum(np.array([width, height]) - seen, 0) / 2
    looked_at = np.array([width, height]) / 2 + slack * rng.uniform(-1, 1, 2)
    turn = scale * np.array([[cos, -math.sin(angle)], [math.sin(angle), cos]])
    return np.hstack([turn, (np.array([width, height]) / 2 - turn @ looked_at)[:, None]])


def _placed(part: Polygon, placement: np.ndarray) -> Polygon:
    def of(ring: np.ndarray) -> np.ndarray:
        return np.asarray(ring @ placement[:, :2].T + placement[:, 2])  # (k, 2) -> (k, 2)

    return Polygon(of(part.exterior), tuple(of(hole) for hole in part.holes))


def _is_visible(parts: tuple[Polygon, ...], size_hw: tuple[int, int]) -> bool:
    points = np.concatenate([part.exterior for part in parts])
    if (points >= 0).all() and (points <= size_hw[::-1]).all():
        return True
    return bool(polygons_to_mask(parts, size_hw).any())
