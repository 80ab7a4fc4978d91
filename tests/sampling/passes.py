"""Hand-made dropout passes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class FakePass:
    boxes_xyxy: np.ndarray
    softmaxes: np.ndarray
    masks: np.ndarray

    @property
    def scores(self) -> np.ndarray:
        return self.softmaxes.max(1)

    @property
    def corners_yx(self) -> np.ndarray:
        return np.zeros((len(self.masks), 2), int)


def rectangle(top: int, bottom: int, left: int, right: int, size_hw: tuple[int, int] = (10, 10)) -> np.ndarray:
    mask = np.zeros(size_hw, bool)
    mask[top:bottom, left:right] = True
    return mask


def fake_pass(
    *masks: np.ndarray, softmax: tuple[float, ...] = (1.0, 0.0), size_hw: tuple[int, int] = (10, 10)
) -> FakePass:
    """A pass that found these masks, all with the same softmax, in boxes around their pixels."""
    return FakePass(
        boxes_xyxy=np.array([box_around(mask) for mask in masks], np.float32).reshape(-1, 4),
        softmaxes=np.array([softmax] * len(masks), np.float32).reshape(-1, len(softmax)),
        masks=np.array(masks, bool).reshape(-1, *size_hw),
    )


def box_around(mask: np.ndarray) -> tuple[int, int, int, int]:
    if not mask.any():
        return (0, 0, 0, 0)
    rows, columns = np.nonzero(mask)
    return (columns.min(), rows.min(), columns.max(), rows.max())
