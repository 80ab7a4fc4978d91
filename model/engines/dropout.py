"""MaskAL's dropout positions in torchvision's Mask R-CNN heads.

Blok et al. 2022; elementwise, inverted scaling, one probability for all. The layers hold no weights and
every class keeps the parameter names of the torchvision class that it replaces, so that checkpoints fit
both. Training and `sampling.mc_dropout` turn the layers on; in ordinary prediction they are off.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import dropwhile, takewhile

import torch
from torch import nn
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor

LOWEST = {2: 0, 4: 0, 8: -(2**7), 16: -(2**15)}
"""The lowest of the integers that are drawn, by their number of bits."""


class Dropout(nn.Dropout):
    """Dropout that draws from its own generator where one is set, else from torch's global one.

    It takes as few random bits an element as the probability needs, two for MaskAL's 0.25 and at most 16 (to which it
    is then rounded): on a CPU a fraction of the time of torch's own dropout, which draws floats. On a GPU without a
    generator of its own it is torch's, which is one kernel there.
    """

    generator: torch.Generator | None = None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Zero each element with probability p and scale the others by 1 / (1 - p), while training."""
        is_fused = self.generator is None and input.device.type != "cpu"
        if not self.training or self.p in (0, 1) or is_fused:
            return super().forward(input)
        bits = next((b for b in LOWEST if float(self.p * 2**b).is_integer()), max(LOWEST))
        dropped = min(round(self.p * 2**bits), 2**bits - 1)
        drawn = random_integers(input.numel(), bits, input.device, self.generator)
        keep = torch.empty_like(input)  # lies in memory as the input does, and is filled in that order
        keep.as_strided((len(drawn),), (1,)).copy_(drawn.ge_(LOWEST[bits] + dropped))
        return keep.mul_(input).mul_(2**bits / (2**bits - dropped))

    def weighted_sum(self, input: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """`forward(input) @ weights`, (n, m, d) @ (n, d, 1) -> (n, m, 1) float32, drawn as a normal number.

        A sum of many elements that are dropped independently is nearly normal, and its mean and variance are known
        (Wang and Manning 2013): one random number instead of d.
        """
        mean = (input @ weights).float()
        if not self.training or self.p == 0:
            return mean
        if self.p == 1:
            return torch.zeros_like(mean)
        variance = (input * input @ (weights * weights)).float() * (self.p / (1 - self.p))
        noise = torch.randn(mean.shape, generator=self.generator, device=mean.device)
        return mean.addcmul_(variance.sqrt_(), noise)


def random_integers(
    count: int, bits: int, device: torch.device, generator: torch.Generator | None = None
) -> torch.Tensor:
    """(count,) integers of so many bits, all equally likely, from LOWEST[bits] on."""
    words = torch.empty(-(-count * bits // 64), dtype=torch.int64, device=device)
    words.random_(-(2**63), None, generator=generator)
    if bits < 8:  # cut each byte into parts
        lowest_bits = int.from_bytes(bytes([2**bits - 1] * 8), "big")
        words = torch.stack([words >> shift for shift in range(0, 8, bits)]).bitwise_and_(lowest_bits).flatten()
    return words.view(torch.int16 if bits == 16 else torch.int8)[:count]


class DropoutTwoMLPHead(TwoMLPHead):
    """flatten > drop > fc6 > relu > drop > fc7 > relu."""

    def __init__(self, in_channels: int, representation_size: int, p: float) -> None:
        super().__init__(in_channels, representation_size)
        self.drop6, self.drop7 = Dropout(p), Dropout(p)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, c, 7, 7) -> (n, representation_size)."""
        return self.tail(self.stem(x))

    def stem(self, x: torch.Tensor) -> torch.Tensor:
        """What comes before the first dropout: (n, c, 7, 7) -> (n, c * 7 * 7)."""
        return x.flatten(start_dim=1)

    def tail(self, rows: torch.Tensor) -> torch.Tensor:
        """What comes from there on: (..., c * 7 * 7) -> (..., representation_size)."""
        x = self.drop7(torch.relu(self.fc6(self.drop6(rows))))
        return torch.relu(self.fc7(x))


class DropoutConvHead(nn.Sequential):
    """Convolutions > flatten > drop > fc > relu, in place of torchvision's convolutional box head."""

    def __init__(self, head: FastRCNNConvFCHead, p: float) -> None:
        layers = OrderedDict[str, nn.Module]()
        for name, layer in head.named_children():
            layers[name] = layer
            if isinstance(layer, nn.Flatten):
                layers["drop"] = Dropout(p)
        super().__init__(layers)

    def stem(self, x: torch.Tensor) -> torch.Tensor:
        """What comes before the first dropout: (n, c, h, w) -> (n, d)."""
        for layer in takewhile(_is_not_dropout, self):
            x = layer(x)
        return x

    def tail(self, rows: torch.Tensor) -> torch.Tensor:
        """What comes from there on: (..., d) -> (..., representation_size)."""
        for layer in dropwhile(_is_not_dropout, self):
            rows = layer(rows)
        return rows


def _is_not_dropout(layer: nn.Module) -> bool:
    return not isinstance(layer, nn.Dropout)


class DropoutPredictor(FastRCNNPredictor):
    """x1 = drop(x) > class scores; x2 = drop(x1) > box deltas: the regression is dropped twice."""

    def __init__(self, in_channels: int, num_classes: int, p: float) -> None:
        super().__init__(in_channels, num_classes)
        self.drop_scores, self.drop_boxes = Dropout(p), Dropout(p)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, d) -> class logits (n, 1 + c), box deltas (n, 4 * (1 + c)); background first."""
        x1 = self.drop_scores(x)
        x2 = self.drop_boxes(x1)
        return self.cls_score(x1), self.bbox_pred(x2)


class DropoutMaskPredictor(MaskRCNNPredictor):
    """drop > deconv > relu > drop > 1x1 convolution."""

    def __init__(self, in_channels: int, dim_reduced: int, num_classes: int, p: float) -> None:
        super().__init__(in_channels, dim_reduced, num_classes)
        layers = OrderedDict(self.named_children())
        for name in layers:
            delattr(self, name)
        self.add_module("drop5", Dropout(p))
        self.add_module("conv5_mask", layers["conv5_mask"])
        self.add_module("relu", layers["relu"])
        self.add_module("drop_logits", Dropout(p))
        self.add_module("mask_fcn_logits", layers["mask_fcn_logits"])
