"""What of a network is trained, and how fast: a backbone that has learned to see before would forget it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from model.engines.base import Engine

SHARE = "share"
"""In an optimizer's group of parameters: the share of the learning rate that is theirs."""


@contextmanager
def frozen(engine: Engine, freeze_at: int | None, backbone_rate: float) -> Iterator[None]:
    """Have so many stages of the backbone take no gradients, all of them at a rate of 0; afterwards all is as before.

    None leaves it as the network was built.
    """
    stages = engine.backbone_stages()
    before = [(parameter, parameter.requires_grad) for stage in stages for parameter in stage]
    limit = len(stages) if backbone_rate == 0 else freeze_at
    try:
        if limit is not None:
            for index, stage in enumerate(stages):
                for parameter in stage:
                    parameter.requires_grad_(index >= limit)
        yield
    finally:
        for parameter, was_trained in before:
            parameter.requires_grad_(was_trained)


def trained_groups(engine: Engine, backbone_rate: float) -> list[dict[str, Any]]:
    """The parameters that take gradients, as an optimizer's groups; the backbone's are one of their own where they
    learn at another rate.
    """
    slow: set[int] = set()
    if backbone_rate != 1:
        slow = {id(parameter) for stage in engine.backbone_stages() for parameter in stage}
    trained = [parameter for parameter in engine.network.parameters() if parameter.requires_grad]
    parts: list[tuple[float, list[nn.Parameter]]] = [
        (backbone_rate, [p for p in trained if id(p) in slow]),
        (1.0, [p for p in trained if id(p) not in slow]),
    ]
    return [{"params": parameters, SHARE: share} for share, parameters in parts if parameters]
