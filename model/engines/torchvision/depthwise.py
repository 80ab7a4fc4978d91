"""Depthwise convolutions that a CPU can also train: the gradient of a wide kernel is a convolution of its own.

oneDNN takes longer for that gradient than for the whole rest of such a layer, in bfloat16 ten times so. Each weight's
gradient is the input, moved by that weight's place, times the gradient of the output, summed: a depthwise convolution
of the input whose kernels are the gradients of the output. Kernels of 3 x 3 are fast as they are.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers.padding import pad_same
from torch import nn
from torch.nn.functional import conv2d, pad
from torch.nn.grad import conv2d_input

WIDE = 5
"""Side of the kernels from which on it pays."""


class WideDepthwise(nn.Conv2d):
    """A depthwise convolution with the weights of another one, whose padding it has; see the module."""

    def __init__(self, like: nn.Conv2d, is_padded_as_needed: bool) -> None:
        super().__init__(
            like.in_channels,
            like.out_channels,
            like.kernel_size,  # type: ignore[arg-type]
            like.stride,  # type: ignore[arg-type]
            like.padding,  # type: ignore[arg-type]
            groups=like.groups,
            bias=False,
        )
        self.weight = like.weight
        self.is_padded_as_needed = is_padded_as_needed

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) -> (n, c, h', w')."""
        rows, columns = (int(side) for side in self.padding)
        if self.is_padded_as_needed:
            input = pad_same(input, list(self.kernel_size), list(self.stride))
        if input.device.type != "cpu" or not (self.weight.requires_grad and torch.is_grad_enabled()):
            return conv2d(input, self.weight, stride=self.stride, padding=(rows, columns), groups=self.groups)
        input, weight = pad(input, (columns, columns, rows, rows)), self.weight
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            input, weight = input.to(dtype), weight.to(dtype)
        result: torch.Tensor = _Depthwise.apply(input, weight, self.stride)
        return result


class _Depthwise(torch.autograd.Function):
    """(n, c, h, w), (c, 1, k, k), stride -> (n, c, h', w'), without padding."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, stride: tuple[int, int]) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return conv2d(x, weight, stride=stride, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor, None]:
        x, weight = ctx.saved_tensors
        (n, c), (rows, columns) = x.shape[:2], weight.shape[2:]
        above = gradients[0]
        own = conv2d(
            x.reshape(1, n * c, *x.shape[2:]),
            above.reshape(n * c, 1, *above.shape[2:]),
            dilation=ctx.stride,
            groups=n * c,
        )[0, :, :rows, :columns]
        below = conv2d_input(x.shape, weight, above, ctx.stride, groups=c) if ctx.needs_input_grad[0] else None
        return below, own.reshape(n, c, rows, columns).float().sum(0)[:, None].to(weight.dtype), None


def with_wide_depthwise(body: nn.Module) -> nn.Module:
    """A network whose wide depthwise convolutions are replaced, in place; names and weights stay."""
    for parent in list(body.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Conv2d) and _is_wide_depthwise(layer):
                setattr(parent, name, WideDepthwise(layer, type(layer).__name__ == "Conv2dSame"))
    return body


def _is_wide_depthwise(layer: nn.Conv2d) -> bool:
    is_depthwise = layer.groups == layer.in_channels == layer.out_channels > 1
    is_plain = type(layer) is nn.Conv2d or type(layer).__name__ == "Conv2dSame"
    is_usual = layer.bias is None and layer.dilation == (1, 1) and layer.padding_mode == "zeros"
    return (
        is_plain and is_depthwise and is_usual and min(layer.kernel_size) >= WIDE and not isinstance(layer.padding, str)
    )
