"""Weights as their own mean over the last steps, which is steadier than where the last one happened to end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

YOUNG = 10
"""Steps over which the mean begins short: it holds no more of the first weights than of any later ones."""


class MeanWeights:
    """The exponential mean of parameters (Polyak and Juditsky 1992); each step keeps the share `keep` of it, 0..1."""

    def __init__(self, parameters: Sequence[torch.nn.Parameter], keep: float) -> None:
        self.parameters, self.keep = list(parameters), keep
        self.values = [parameter.detach().clone() for parameter in parameters]

    @torch.no_grad()
    def start_from(self, values: Sequence[torch.Tensor] | None) -> None:
        """Go on from means of before, or begin with the weights as they are now for None."""
        for own, value in zip(self.values, self.parameters if values is None else values, strict=True):
            own.copy_(value)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step, counted from 1."""
        keep = min(self.keep, step / (YOUNG + step))
        torch._foreach_lerp_(self.values, [parameter.detach() for parameter in self.parameters], 1 - keep)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the parameters' weights and their means."""
        for parameter, value in zip(self.parameters, self.values, strict=True):
            last = parameter.detach().clone()
            parameter.copy_(value)
            value.copy_(last)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Have the means as weights for a while."""
        self.swap()
        try:
            yield
        finally:
            self.swap()
