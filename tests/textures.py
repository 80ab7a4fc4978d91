"""Photos of nothing in particular, no two alike, and what another shot of the same looks like."""

from __future__ import annotations

import cv2
import numpy as np

SIZE_HW = (150, 200)


def textured(seed: int, size_hw: tuple[int, int] = SIZE_HW) -> np.ndarray:
    """An RGB uint8 photo full of soft spots."""
    noise = np.random.default_rng(seed).normal(size=(*size_hw, 3)).astype(np.float32)
    return np.asarray((128 + 400 * cv2.GaussianBlur(noise, (0, 0), 3)).clip(0, 255), np.uint8)


def shot_again(photo: np.ndarray, seed: int = 0) -> np.ndarray:
    """The same a moment later: a little turned, shifted and closer, darker, blurred, and saved as JPEG."""
    rng, (height, width) = np.random.default_rng(seed), photo.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-4, 4), rng.uniform(1.05, 1.15))
    turn[:, 2] += rng.uniform(-0.03, 0.03, 2) * (width, height)
    moved = cv2.warpAffine(photo, turn, (width, height), borderMode=cv2.BORDER_REFLECT)
    darker = cv2.convertScaleAbs(cv2.GaussianBlur(moved, (0, 0), 0.8), alpha=rng.uniform(0.7, 0.9), beta=-5)
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", darker, [cv2.IMWRITE_JPEG_QUALITY, 70])[1], cv2.IMREAD_COLOR))
