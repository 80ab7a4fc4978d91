"""Room around the boxes of masks: what few images teach of boxes is less right than the masks in them.

A mask is looked for beyond its box, and sets it right. So that neighbours which come into view are told from the
object, masks are learned with room, too, of chance: dropout passes have none, as published.
"""

from __future__ import annotations

from typing import Any

import torch

from model.engines.pasting import enlarged

MASK_ROOM = 1.2
"""A mask is looked for in so many times its box."""

LEARNED_ROOM = 1.3
"""A mask is learned in 1 to so many times its box."""


def with_learned_room(pooler: torch.nn.Module, given: tuple[Any, ...]) -> None:
    """A hook before torchvision's mask pooling, (features, boxes, sizes): boxes to learn from get some room, in place.

    The loss reads the masks of the annotated objects in the same list of boxes.
    """
    if pooler.training:
        _, boxes, sizes = given
        boxes[:] = [enlarged(own, _rooms(own), size_hw) for own, size_hw in zip(boxes, sizes, strict=True)]


def _rooms(boxes: torch.Tensor) -> torch.Tensor:
    return 1 + (LEARNED_ROOM - 1) * torch.rand(len(boxes), 1, device=boxes.device)
