"""Random changes of training images: mirrored, larger or smaller, cut, and in another light."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

GROUND_RGB = (124, 116, 104)
"""ImageNet's mean colour, for what lies beside a photo."""

LUMA = np.array([0.299, 0.587, 0.114])
"""Share of red, green and blue in the perceived brightness (ITU-R BT.601)."""


@dataclass(frozen=True)
class Augmentation:
    """How much training images are changed.

    mirror   probability of mirroring along each axis
    zoom     half of the images become up to so many times larger (and are cut) or smaller
    light    half of the images change in brightness, contrast and saturation by up to this share
    """

    mirror: float = 0.5
    zoom: float = 1.25
    light: float = 0.25

    def placement(self, size_hw: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        """Where a point of the image goes: (2, 3), for x and y in pixels (pixel column 0 spans x = 0..1)."""
        scale = math.exp(rng.uniform(-1, 1) * math.log(self.zoom)) if rng.random() < 0.5 else 1.0
        matrix = np.zeros((2, 3))
        for axis, side in enumerate(size_hw[::-1]):
            offset = rng.random() * (1 - scale) * side
            is_mirrored = rng.random() < self.mirror
            matrix[axis, axis] = -scale if is_mirrored else scale
            matrix[axis, 2] = offset + scale * side if is_mirrored else offset
        return matrix

    def relight(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """An RGB uint8 (h, w, 3) image in another light."""
        if rng.random() < 0.5:
            return image
        brightness, contrast, saturation = 1 + rng.uniform(-self.light, self.light, 3)
        colours = saturation * np.eye(3) + (1 - saturation) * LUMA  # (3, 3), rows: new red, green, blue
        mean = float(LUMA @ image.reshape(-1, 3).mean(0))
        offset = np.full((3, 1), (1 - contrast) * mean * brightness)
        return cv2.transform(image, np.hstack([colours * contrast * brightness, offset]))


def moved(image: np.ndarray, placement: np.ndarray, size_hw: tuple[int, int], ground: tuple[int, ...]) -> np.ndarray:
    """An image whose points go where `placement` (2, 3) says, on a canvas of that size; bilinear."""
    centres = placement.copy()
    centres[:, 2] += placement[:, :2].sum(1) / 2 - 0.5  # cv2 counts from the centre of the first pixel
    return cv2.warpAffine(image, centres, size_hw[::-1], flags=cv2.INTER_LINEAR, borderValue=ground)
