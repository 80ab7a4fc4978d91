from __future__ import annotations

import pytest
import torch
from torchvision.ops import box_iou

from model.engines.base import EngineConfig
from model.engines.torchvision import overlaps as module
from model.engines.torchvision.networks import build_network
from model.engines.torchvision.overlaps import overlaps


def boxes(count: int, seed: int) -> torch.Tensor:
    """(n, 4) of some pixels to some tens."""
    corners = 60 * torch.rand(count, 4, generator=torch.Generator().manual_seed(seed))
    return torch.cat(
        [torch.minimum(corners[:, :2], corners[:, 2:]), torch.maximum(corners[:, :2], corners[:, 2:]) + 1], 1
    )


@pytest.mark.parametrize("at_once", [1, 100, 2**18])
@pytest.mark.parametrize(("count", "others"), [(0, 7), (7, 0), (1, 1), (23, 70), (3, 1000)])
def test_they_are_torchvisions_to_the_last_digit(
    monkeypatch: pytest.MonkeyPatch, count: int, others: int, at_once: int
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    assert torch.equal(overlaps(boxes(count, 0), boxes(others, 1)), box_iou(boxes(count, 0), boxes(others, 1)))


@pytest.mark.parametrize("network", ["nano", "lite"])
def test_anchors_are_matched_by_them(network: str) -> None:
    assert build_network(EngineConfig(network), 1).rpn.box_similarity is overlaps
