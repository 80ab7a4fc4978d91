"""What every engine is: the protocol that training, scoring and serving rely on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from model.engines.config import EngineConfig as EngineConfig  # all three are part of this module's interface
from model.engines.config import InputRange as InputRange
from model.engines.config import Keeping as Keeping
from model.instances import CoarseInstances, Instances, Proposals
from model.scaling import Scaling


@dataclass(frozen=True, eq=False)
class Target:
    """What one training image shows, on the grid of that image.

    boxes_xyxy (n, 4) float32 · labels (n,) int64, 0..C-1 · masks (n, h, w) uint8
    """

    boxes_xyxy: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor


class Engine(Protocol):
    """A trainable instance segmentation network with MaskAL's dropout positions.

    `encode` holds all that dropout does not touch and runs once per image, many images at once; `decode` makes the
    ordinary prediction of it and `sample` any number of dropout passes in one batch. An exact encoding is computed in
    full precision and sampled from as published; another one as fast as the ranking allows. Several threads may encode
    and decode at once, all of them exactly or none.
    """

    name: str
    classes: tuple[str, ...]
    config: EngineConfig
    network: torch.nn.Module

    @property
    def input_range(self) -> InputRange | None:
        """What input the network can take; None if there is no choice."""
        ...

    @property
    def training_size_hw(self) -> tuple[int, int]:
        """Shortest and longest side, in pixels, to which training images are scaled."""
        ...

    @property
    def scaling(self) -> Scaling:
        """How images get the size of the network's input."""
        ...

    def encode(self, images: Sequence[np.ndarray], *, exact: bool = False) -> Sequence[Any]:
        """What `decode` and `sample` need of RGB uint8 (h, w, 3) images; splits a batch for which memory lacks."""
        ...

    def decode(self, encoded: Any, *, confidence_threshold: float | None = None, any_class: bool = False) -> Instances:
        """The ordinary prediction: instances with boxes and masks in the original image's pixels.

        With `any_class` the threshold is for an object of whatever class, else for one class alone. A mask may reach
        beyond the box that the network gave its object, as it never does in a pass.
        """
        ...

    def sample(self, encoded: Any, passes: int) -> Sequence[Instances] | Sequence[CoarseInstances]:
        """The instances of so many passes, with dropout where it is on; coarse masks unless the encoding is exact."""
        ...

    def propose(self, encoded: Any, passes: int) -> Proposals:
        """The places that are an object of any class with a probability of 0.05 or more, the 50 likeliest.

        Their probabilities are the mean of so many passes, with dropout where it is on.
        """
        ...

    def embedding(self, encoded: Any) -> np.ndarray:
        """What the image looks like as a whole, (d,) float32 of length 1: similar images have similar ones."""
        ...

    def predict(self, image: np.ndarray, *, confidence_threshold: float | None = None) -> Instances:
        """The ordinary, deterministic prediction for one RGB uint8 (h, w, 3) image."""
        ...

    def features(self, image: np.ndarray) -> Any:
        """What `segment` needs of one RGB uint8 (h, w, 3) image, and no more; worth keeping for the next box."""
        ...

    def segment(self, features: Any, box_xyxy: np.ndarray, label: int | None) -> np.ndarray:
        """The mask (h, w) bool of the object that fills a box (4,) in the original image's pixels.

        `label` is its class, None if that is not known.
        """
        ...

    def losses(self, images: Sequence[torch.Tensor], targets: Sequence[Target]) -> dict[str, torch.Tensor]:
        """Named training losses; images are float (3, h, w) in 0..1."""
        ...

    def load_tensors(self, tensors: Mapping[str, torch.Tensor], classes: Sequence[str]) -> None:
        """Take over weights trained for `classes`, matching classes by name; new classes start fresh."""
        ...

    def backbone_stages(self) -> list[list[torch.nn.Parameter]]:
        """Parameters of the backbone by depth, the stem first, without the pyramid; empty where there is none."""
        ...

    @property
    def keeping(self) -> Keeping:
        """What training should leave as it was where the network starts from pretrained weights."""
        ...

    @property
    def has_coco_weights(self) -> bool:
        """Whether `load_coco` can be expected to work."""
        ...

    def load_coco(self) -> None:
        """Start from weights trained on COCO; BadEngine if there are none, BadCheckpoint if they cannot be had."""
        ...

    @property
    def has_imagenet_weights(self) -> bool:
        """Whether `load_imagenet` can be expected to work."""
        ...

    def load_imagenet(self) -> None:
        """Start with a backbone trained on ImageNet; BadEngine if there is none, BadCheckpoint if it cannot be had."""
        ...

    def tensors(self) -> dict[str, torch.Tensor]:
        """All weights and buffers by name, as they go into a checkpoint."""
        ...

    def to(self, device: str) -> Engine:
        """Move the network to a device ("cpu", "cuda", "cuda:1") and return the engine."""
        ...
