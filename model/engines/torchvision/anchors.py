"""Anchors that low precision does not move."""

from __future__ import annotations

import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator


class SteadyAnchors(AnchorGenerator):
    """torchvision's anchors in float32 at least, whatever precision the features have.

    As torchvision has it, features in bfloat16 make anchors in bfloat16: beyond 256 px they lie on a grid of 2 px,
    beyond 512 px of 4 px, and the sizes stay rounded for later predictions in full precision.
    """

    def set_cell_anchors(self, dtype: torch.dtype, device: torch.device) -> None:
        """Have the anchors of a cell on the device, in float32 or better."""
        super().set_cell_anchors(torch.promote_types(dtype, torch.float32), device)
