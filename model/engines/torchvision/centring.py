"""Strided convolutions padded alike on both sides, as everything that reads a level's cells by their place expects it.

TensorFlow pads an even side on its end only, so that every stride moves a level's cells on: those of EfficientNet lie
3, 7, 15 and 31 pixels beyond where RoIAlign and the anchors look for them, which for an object of 10 pixels is another
place. Padded alike, the cells lie where those of a ResNet do, and hold what they held of an image moved by 31 pixels:
nothing that the weights have learned is lost.
"""

from __future__ import annotations

from timm.layers.conv2d_same import Conv2dSame
from torch import nn


def centred(body: nn.Module) -> nn.Module:
    """A network whose convolutions pad alike on both sides, in place where they did not; names and weights stay."""
    for parent in list(body.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, Conv2dSame) and all(side % 2 for side in layer.kernel_size):
                setattr(parent, name, _padded_alike(layer))
    return body


def _padded_alike(like: Conv2dSame) -> nn.Conv2d:
    layer = nn.Conv2d(
        like.in_channels,
        like.out_channels,
        like.kernel_size,  # type: ignore[arg-type]
        like.stride,  # type: ignore[arg-type]
        tuple(dilation * (side // 2) for side, dilation in zip(like.kernel_size, like.dilation, strict=True)),  # type: ignore[arg-type]
        like.dilation,  # type: ignore[arg-type]
        groups=like.groups,
        bias=like.bias is not None,
    )
    layer.weight, layer.bias = like.weight, like.bias
    return layer
