"""From an image's own size to that of a network's input, the same way for training and prediction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Scaling:
    """How images get the size of a network's input.

    size    (size_hw, shortest, longest side in pixels) -> (height, width)
    image   (uint8 (h, w, 3), size_hw) -> uint8 of that size
    """

    size: Callable[[tuple[int, int], int, int], tuple[int, int]]
    image: Callable[[np.ndarray, tuple[int, int]], np.ndarray]


def scaled_size(size_hw: tuple[int, int], shortest: int, longest: int) -> tuple[int, int]:
    """Height and width after scaling to a shortest side, without passing the longest."""
    scale = min(shortest / min(size_hw), longest / max(size_hw))
    return max(1, round(size_hw[0] * scale)), max(1, round(size_hw[1] * scale))


def scaled_image(image: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """A uint8 (h, w, 3) image at another size; free of aliasing."""
    shrinks = size_hw[0] < image.shape[0]
    return cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def detectron2_size(size_hw: tuple[int, int], shortest: int, longest: int) -> tuple[int, int]:
    """`scaled_size` as Detectron2 rounds it: halves upwards, the longest side found from the shortest."""
    scale = shortest / min(size_hw)
    height, width = (float(shortest) if side == min(size_hw) else side * scale for side in size_hw)
    if max(height, width) > longest:
        scale = longest / max(height, width)
        height, width = height * scale, width * scale
    return max(1, int(height + 0.5)), max(1, int(width + 0.5))


def pillow_image(image: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """`scaled_image` as Detectron2 has it: Pillow's bilinear filter, which widens where an image shrinks."""
    return np.array(Image.fromarray(image).resize(size_hw[::-1], Image.Resampling.BILINEAR))


AREA = Scaling(scaled_size, scaled_image)
DETECTRON2 = Scaling(detectron2_size, pillow_image)
