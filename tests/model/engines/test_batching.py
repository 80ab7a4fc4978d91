from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from model.engines.base import EngineConfig
from model.engines.batching import in_halves
from model.engines.torchvision.engine import TorchvisionEngine


class Memory:
    """Holds so many items at once."""

    def __init__(self, size: int, error: Exception) -> None:
        self.size, self.error = size, error
        self.asked: list[int] = []

    def double(self, items: Sequence[int]) -> list[int]:
        self.asked.append(len(items))
        if len(items) > self.size:
            raise self.error
        return [2 * item for item in items]


FULL = [
    torch.OutOfMemoryError("CUDA out of memory"),
    MemoryError(),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
    RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
]


@pytest.mark.parametrize("error", FULL, ids=str)
def test_a_batch_that_is_too_large_is_done_in_halves_in_order(error: Exception) -> None:
    memory = Memory(2, error)
    assert in_halves(memory.double, range(7)) == [0, 2, 4, 6, 8, 10, 12]
    assert memory.asked == [7, 3, 1, 2, 4, 2, 2]


def test_what_fits_is_done_at_once() -> None:
    memory = Memory(9, MemoryError())
    assert in_halves(memory.double, [1, 2]) == [2, 4] and memory.asked == [2]
    assert in_halves(memory.double, []) == []


def test_a_single_item_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(MemoryError):
        in_halves(Memory(0, MemoryError()).double, [1, 2])


def test_other_errors_are_not_mistaken_for_a_lack_of_memory() -> None:
    memory = Memory(1, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        in_halves(memory.double, [1, 2, 3])
    assert memory.asked == [3]


def test_an_engine_encodes_what_does_not_fit_at_once_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = TorchvisionEngine(("a",), EngineConfig(network="nano"))
    images = [np.full((64, 64, 3), shade, np.uint8) for shade in (10, 120, 240)]
    at_once = [e.features["0"] for e in engine.encode(images, exact=True)]
    backbone, batches = engine.network.backbone.forward, []

    def small(tensors: torch.Tensor) -> dict[str, torch.Tensor]:
        batches.append(len(tensors))
        if len(tensors) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return backbone(tensors)

    monkeypatch.setattr(engine.network.backbone, "forward", small)
    in_parts = [e.features["0"] for e in engine.encode(images, exact=True)]
    assert batches == [3, 1, 2, 1, 1]
    assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(at_once, in_parts, strict=True))
