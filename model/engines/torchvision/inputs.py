"""What goes into a network: images scaled to its size, normalised, and padded to batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from model.scaling import Scaling


@dataclass(frozen=True, eq=False)
class Inputs:
    """Makes a network's input as its transform says, but for how images are scaled."""

    transform: GeneralizedRCNNTransform
    scaling: Scaling

    @property
    def size_hw(self) -> tuple[int, int]:
        """Shortest and longest side in pixels."""
        return self.transform.min_size[-1], self.transform.max_size

    def has_size(self, size_hw: tuple[int, int]) -> bool:
        """Whether an image of that size needs no scaling."""
        return self.scaling.size(size_hw, *self.size_hw) == size_hw

    def batch(self, images: Sequence[np.ndarray], weight: torch.Tensor, layout: torch.memory_format) -> ImageList:
        """RGB uint8 (h, w, 3) images together, with the type and on the device of a weight of the network's."""
        mean, std = (
            torch.tensor([255 * value for value in values]).to(weight)[:, None, None]
            for values in (self.transform.image_mean, self.transform.image_std)
        )
        inputs = []
        for image in images:
            scaled = self.scaling.image(image, self.scaling.size(image.shape[:2], *self.size_hw))
            pixels = torch.from_numpy(scaled).to(weight.device).permute(2, 0, 1).to(weight)  # as bytes to the GPU
            inputs.append((pixels - mean) / std)  # in 0..255: what comes in as in Detectron2, to the bit
        tensors = self.transform.batch_images(inputs, self.transform.size_divisible)
        return ImageList(tensors.contiguous(memory_format=layout), [one.shape[-2:] for one in inputs])

    def equally_large(self, images: Sequence[np.ndarray]) -> list[list[int]]:
        """Indices of images that become about equally large, in the order in which the sizes first appear."""
        groups: dict[tuple[int, int], list[int]] = {}
        for index, image in enumerate(images):
            groups.setdefault(self._padded_hw(image.shape[:2]), []).append(index)
        return list(groups.values())

    def _padded_hw(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        height, width = self.scaling.size(size_hw, *self.size_hw)
        step = self.transform.size_divisible
        return math.ceil(height / step) * step, math.ceil(width / step) * step
