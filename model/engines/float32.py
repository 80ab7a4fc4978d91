"""Full precision as float32 has it."""

from __future__ import annotations

import torch


def leave_tf32(device: str) -> None:
    """Have convolutions on a GPU compute in float32: torch has them in TF32 otherwise, which keeps 10 bits of 23."""
    if torch.device(device).type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
