"""Monte-Carlo dropout: the same image several times through heads with dropout, features computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from sampling.observations import Pass
from sampling.uncertainty import MODES, image_certainty


class DropoutModel(Protocol):
    """A network whose heads hold dropout layers."""

    @property
    def network(self) -> nn.Module:
        """The network, in eval mode."""
        ...

    def decode(self, encoded: Any, passes: int) -> Sequence[Pass]:
        """So many passes of the heads over an encoded image, in one batch."""
        ...


@dataclass(frozen=True)
class ScoringConfig:
    """How an image is scored: number of passes, mask IoU that makes one object of two, mode over the objects."""

    passes: int = 10
    iou_threshold: float = 0.5
    mode: str = "mean"

    def __post_init__(self) -> None:
        if self.passes < 1:
            raise ValueError(f"passes must be at least 1, got {self.passes}")
        if not 0 <= self.iou_threshold <= 1:
            raise ValueError(f"iou_threshold must lie in 0..1, got {self.iou_threshold}")
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {self.mode!r}")


@contextmanager
def dropout_on(network: nn.Module, generator: torch.Generator) -> Iterator[None]:
    """Turn the network's dropout layers on, drawing from the generator, and everything back off afterwards.

    Layers with a `generator` attribute draw from it. Raises ValueError for a network without dropout,
    whose passes would all be equal.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.Dropout)]
    if not layers:
        raise ValueError("scoring needs dropout layers, the network has none; build it with a dropout_probability")
    were_training = [layer.training for layer in layers]
    try:
        for layer in layers:
            layer.train()
            if hasattr(layer, "generator"):
                layer.generator = generator
        yield
    finally:
        for layer, was_training in zip(layers, were_training, strict=True):
            layer.train(was_training)
            if hasattr(layer, "generator"):
                layer.generator = None


def score(model: DropoutModel, encoded: Any, config: ScoringConfig, generator: torch.Generator) -> float:
    """Certainty of an encoded image, 0..1, NaN where no pass finds anything; the same generator state gives it again."""
    with dropout_on(model.network, generator):
        passes = model.decode(encoded, config.passes)
    return image_certainty(passes, iou_threshold=config.iou_threshold, mode=config.mode)
