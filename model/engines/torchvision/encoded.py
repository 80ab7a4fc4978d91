"""What is kept of an image between the engine's steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from model.engines.torchvision.first_look import FirstLook


@dataclass(frozen=True, eq=False)
class Encoded:
    """All of an image that dropout does not touch.

    features    FPN level name -> (1, c, h, w)
    proposals   (n, 4) boxes in the resized image's pixels: all, or those worth sampling
    rows        (n, d) their box features, as the first dropout layer sees them
    first_look  what the box head says of all proposals, None in an exact encoding
    resized_hw, original_hw   sizes of the network's input (without padding) and of the image
    """

    features: dict[str, torch.Tensor]
    proposals: torch.Tensor
    rows: torch.Tensor
    first_look: FirstLook | None
    resized_hw: tuple[int, int]
    original_hw: tuple[int, int]

    @property
    def is_exact(self) -> bool:
        """Whether it is as published, in full precision."""
        return self.first_look is None


@dataclass(frozen=True, eq=False)
class Features:
    """What `segment` needs of an image: FPN level name -> (1, c, h, w), and the sizes as in Encoded."""

    levels: dict[str, torch.Tensor]
    resized_hw: tuple[int, int]
    original_hw: tuple[int, int]
