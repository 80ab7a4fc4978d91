"""What a backbone that was trained on ImageNet, and nowhere else, sees in an image: features to compare images by.

It is the backbone of `lite`, whatever network a project trains: its weights come with the package, and stay as they
are while training moves those of the version.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torchvision.ops import roi_align

from model.engines.float32 import leave_tf32
from model.engines.torchvision.imagenet import BODY, imagenet_backbone
from model.engines.torchvision.timm_networks import LITE, STRIDES, features_of
from model.errors import is_out_of_memory
from model.scaling import scaled_image, scaled_size

logger = logging.getLogger(__name__)

INPUT = (256, 512)
"""Shortest side of the input that is aimed at, and the longest that is allowed, pixels."""

LEVELS = {STRIDES.index(16): 16, STRIDES.index(32): 32}
"""The backbone's levels that are kept, and their strides."""

GRID = 3
"""A box is looked at in so many places across and down."""

CELLS_LIE = "at multiples of the stride"
"""Where the levels' cells are in the input, as those of a ResNet; a part of the digest."""


@dataclass(frozen=True, eq=False)
class FeatureMaps:
    """What the backbone sees in an image.

    levels      one (c, h, w) float16 for a stride of 16 pixels of the input, one for 32
    image_hw    the image's own size
    """

    levels: tuple[np.ndarray, ...]
    image_hw: tuple[int, int]

    def of_boxes(self, boxes_xyxy: np.ndarray) -> np.ndarray:
        """Features (n, d) float32 in boxes (n, 4) in the image's pixels: mean and maximum of each level.

        `aligned` stands for cells in the middle of their squares; these lie at the corners, see CELLS_LIE.
        """
        height, width = self.image_hw
        found = []
        for level in self.levels:
            values = torch.from_numpy(level.astype(np.float32))[None]
            h, w = values.shape[-2:]
            boxes = torch.as_tensor(boxes_xyxy, dtype=torch.float32) * torch.tensor([w / width, h / height] * 2)
            looks = roi_align(values, [boxes], GRID, sampling_ratio=2, aligned=False).flatten(2)  # (n, c, places)
            found += [looks.mean(2), looks.amax(2)]
        return np.asarray(torch.cat(found, 1).numpy(), np.float32)

    def of_image(self) -> np.ndarray:
        """Features (d,) float32 of the image as a whole."""
        flat = [level.astype(np.float32).reshape(len(level), -1) for level in self.levels]
        return np.concatenate([part for level in flat for part in (level.mean(1), level.max(1))])

    def of_patches(self, across: int = 2) -> np.ndarray:
        """Features (across * across, d) float32 of equal patches of the image, row by row."""
        return self.of_boxes(patches(self.image_hw, across))


def patches(image_hw: tuple[int, int], across: int) -> np.ndarray:
    """Boxes (across * across, 4) that divide an image, row by row, in its pixels."""
    ys, xs = (np.linspace(0, side, across + 1) for side in image_hw)
    boxes = [(xs[i], ys[j], xs[i + 1], ys[j + 1]) for j in range(across) for i in range(across)]
    return np.array(boxes, np.float32)


class FrozenBackbone:
    """The untouched backbone on a device; BadCheckpoint if its weights are not installed.

    Where a GPU has no memory left it goes on on the CPU: it is small, and a round may fill the GPU for hours.
    `digest` changes with the weights, and with anything else that changes the features.
    """

    def __init__(self, device: str = "cpu") -> None:
        weights = imagenet_backbone(LITE)
        self.device = device
        self.body: nn.Module = features_of(LITE)
        self.body.load_state_dict({n.removeprefix(BODY): t for n, t in weights.items() if n.startswith(BODY)})
        leave_tf32(device)
        self.body.eval()
        self.digest = _digest(weights)

    def maps(self, image: np.ndarray) -> FeatureMaps:
        """The features of an RGB uint8 (h, w, 3) image."""
        try:
            return self._maps(image)
        except RuntimeError as err:
            if self.device == "cpu" or not is_out_of_memory(err):
                raise
            logger.warning("the untouched backbone computes features on the CPU from now on: %s", err)
        self.device = "cpu"
        return self._maps(image)

    @torch.no_grad()
    def _maps(self, image: np.ndarray) -> FeatureMaps:
        self.body.to(self.device)
        size_hw = scaled_size(image.shape[:2], *INPUT)
        padded = [-(-side // 32) * 32 for side in size_hw]
        scaled = scaled_image(image, (padded[0], padded[1]))  # stretched by less than 32 pixels, rather than padded
        pixels = torch.from_numpy(scaled).to(self.device).permute(2, 0, 1).float() / 255
        mean, std = (torch.tensor(values, device=self.device)[:, None, None] for values in (LITE.mean, LITE.std))
        levels: Sequence[torch.Tensor] = self.body(((pixels - mean) / std)[None])
        return FeatureMaps(tuple(levels[i][0].half().cpu().numpy() for i in LEVELS), image.shape[:2])


def _digest(weights: dict[str, torch.Tensor]) -> str:
    whole = hashlib.sha256(repr((LITE, INPUT, sorted(LEVELS), CELLS_LIE)).encode())
    for name in sorted(weights):
        whole.update(weights[name].contiguous().numpy().tobytes())
    return whole.hexdigest()[:12]
