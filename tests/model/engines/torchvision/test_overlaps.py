from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
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
    monkeypatch.setitem(module.AT_ONCE, "cpu", at_once)
    assert torch.equal(overlaps(boxes(count, 0), boxes(others, 1)), box_iou(boxes(count, 0), boxes(others, 1)))


@pytest.mark.parametrize("network", ["nano", "lite"])
def test_anchors_are_matched_by_them(network: str) -> None:
    assert build_network(EngineConfig(network), 1).rpn.box_similarity is overlaps


class Largest(TorchDispatchMode):
    """Sees how many bytes the largest tensor has that is made."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.size = max(self.size, result.nbytes)
        return result


def test_a_gpu_needs_no_more_memory_than_the_table_and_some_of_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.AT_ONCE, "cuda", 2**20)
    objects, anchors = torch.empty(400, 4, device="meta"), torch.empty(266_799, 4, device="meta")  # 800 x 1333 px
    with Largest() as largest:
        table = overlaps(objects, anchors)
    assert table.shape == (400, 266_799)
    assert largest.size == table.nbytes
