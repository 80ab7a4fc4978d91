"""The instances a network finds in one image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Instances:
    """Detected objects of one image, best score first.

    boxes_xyxy   (n, 4) float32, pixels of the original image
    scores       (n,) float32, probability of the object's label, 0..1
    labels       (n,) int64, 0..C-1 into the engine's class names; background is not a label
    softmaxes    (n, C) float32, all foreground probabilities, background cut off, not renormalised
    masks        (n, h, w) bool, the original image's size
    """

    boxes_xyxy: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    softmaxes: np.ndarray
    masks: np.ndarray

    def __post_init__(self) -> None:
        n = len(self.boxes_xyxy)
        lengths = {len(self.scores), len(self.labels), len(self.softmaxes), len(self.masks)}
        if lengths != {n}:
            raise ValueError(f"all fields need one row per instance, got {n} boxes and {sorted(lengths)} elsewhere")
        if self.boxes_xyxy.shape != (n, 4) or self.masks.ndim != 3 or self.softmaxes.ndim != 2:
            raise ValueError(
                f"wanted boxes (n, 4), softmaxes (n, c), masks (n, h, w), got {self.boxes_xyxy.shape}, "
                f"{self.softmaxes.shape}, {self.masks.shape}"
            )

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.masks.shape[1], self.masks.shape[2]

    @property
    def corners_yx(self) -> np.ndarray:
        """(n, 2) int, where in the image each mask's top left pixel lies: at its corner, the masks being whole."""
        return np.zeros((len(self), 2), int)

    @classmethod
    def none(cls, size_hw: tuple[int, int], num_classes: int) -> Instances:
        """No object at all in an image of that size."""
        return cls(
            boxes_xyxy=np.zeros((0, 4), np.float32),
            scores=np.zeros(0, np.float32),
            labels=np.zeros(0, np.int64),
            softmaxes=np.zeros((0, num_classes), np.float32),
            masks=np.zeros((0, *size_hw), bool),
        )


@dataclass(frozen=True, eq=False)
class CoarseInstances:
    """Detected objects of one image for comparing them among each other: masks on a grid that is as fine as needed.

    boxes_xyxy, scores and softmaxes as in `Instances`
    masks        n arrays (h, w) bool, each cut to its object's box
    corners_yx   (n, 2) int, where on the grid each mask's top left cell lies
    """

    boxes_xyxy: np.ndarray
    scores: np.ndarray
    softmaxes: np.ndarray
    masks: tuple[np.ndarray, ...]
    corners_yx: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, eq=False)
class Proposals:
    """What may be an object in an image, sure or not; each place once, whatever the class.

    boxes_xyxy     (n, 4) float32, pixels of the original image
    probabilities  (n, C) float32, of each class, the mean of several passes; what lacks to 1 is that it is none
    """

    boxes_xyxy: np.ndarray
    probabilities: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes_xyxy)
