"""Monte-Carlo dropout: the same image several times through heads with dropout, features computed once.

Gal and Ghahramani 2016; in Mask R-CNN heads Blok et al. 2022 (MaskAL).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from sampling.observations import Pass
from sampling.scoring_config import ScoringConfig as ScoringConfig  # part of this module's interface
from sampling.uncertainty import class_counts, image_certainty


class DropoutModel(Protocol):
    """A network whose heads hold dropout layers."""

    @property
    def network(self) -> nn.Module:
        """The network, in eval mode."""
        ...

    def encode(self, images: Sequence[np.ndarray], *, exact: bool = False) -> Sequence[Any]:
        """All that dropout does not touch (backbone, proposals, pooled features) of RGB uint8 (h, w, 3) images."""
        ...

    def sample(self, encoded: Any, passes: int) -> Sequence[Pass]:
        """So many passes of the heads over an encoded image, in one batch."""
        ...


@dataclass(frozen=True, eq=False)
class Score:
    """What the passes tell of an image.

    certainty     0..1, NaN where no pass finds anything
    class_counts  (c,) objects of each class that a pass finds in the mean
    """

    certainty: float
    class_counts: np.ndarray


@contextmanager
def dropout_on(network: nn.Module, generator: torch.Generator) -> Iterator[None]:
    """Turn the network's dropout layers on and all else to eval mode; afterwards everything is as it was.

    Layers with a `generator` attribute draw from the generator, plain ones from torch's global one. Raises
    ValueError for a network without dropout, whose passes would all be equal.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.Dropout)]
    if not layers:
        raise ValueError(
            "scoring needs dropout layers, got a network without any: all passes would be equal and the certainty "
            "would mean nothing; build the network with a dropout_probability"
        )
    modes = [(module, module.training) for module in network.modules()]
    generators = [(layer, layer.generator) for layer in layers if hasattr(layer, "generator")]
    try:
        network.eval()
        for layer in layers:
            layer.train()
        for layer, _ in generators:
            _draw_from(layer, generator)
        yield
    finally:
        for module, was_training in modes:
            module.training = was_training
        for layer, before in generators:
            _draw_from(layer, before)


def _draw_from(layer: nn.Module, generator: Any) -> None:
    layer.generator = generator


def score(model: DropoutModel, encoded: Any, config: ScoringConfig, generator: torch.Generator) -> Score:
    """Score an image that was encoded with the same `exact`; repeatable by the generator's state."""
    with dropout_on(model.network, generator):
        passes = model.sample(encoded, config.passes)
    certainty = image_certainty(passes, iou_threshold=config.iou_threshold, mode=config.mode, exact=config.exact)
    return Score(certainty, class_counts(passes))
