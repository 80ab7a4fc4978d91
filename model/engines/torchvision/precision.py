"""Where bfloat16 is computed with, and where its results are widened."""

from __future__ import annotations

import torch


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes with bfloat16 itself; where it is emulated it is slower than float32.

    torch.cuda.is_bf16_supported() says yes to older GPUs too, which can hold bfloat16 but have no convolutions for it.
    torch's own ATEN_CPU_CAPABILITY=avx2 in the environment turns it off on a CPU.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.cpu._is_avx512_bf16_supported() and torch.backends.cpu.get_cpu_capability() == "AVX512"


def in_float32(head: torch.nn.Module, given: object, result: tuple[list[torch.Tensor], list[torch.Tensor]]) -> object:
    """The RPN head's output in float32: box corners in bfloat16 would be off by some pixels."""
    scores, deltas = result
    return [single(s) for s in scores], [single(d) for d in deltas]


def single(values: torch.Tensor) -> torch.Tensor:
    """Values in float32 at least: what came out of bfloat16 is widened, float64 stays."""
    return values if values.dtype == torch.float64 else values.float()


def computing(device: torch.device, exact: bool) -> torch.autocast:
    """bfloat16 where the hardware computes with it, unless it has to be exact."""
    return torch.autocast(device.type, torch.bfloat16, enabled=not exact and has_bfloat16(device))
