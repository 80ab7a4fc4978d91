from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from model.engines.base import EngineConfig
from model.engines.float32 import leave_tf32
from model.engines.torchvision.engine import TorchvisionEngine
from model.engines.torchvision.frozen import FrozenBackbone

WAYS: dict[str, Callable[[str], object]] = {
    "alone": leave_tf32,
    "engine": lambda device: TorchvisionEngine(("leaf",), EngineConfig("nano")).to(device),
    "backbone": FrozenBackbone,
}


@pytest.mark.parametrize(("device", "is_left"), [("cpu", True), ("cuda", False), ("cuda:1", False)])
@pytest.mark.parametrize("way", WAYS)
def test_convolutions_on_a_gpu_are_float32(
    monkeypatch: pytest.MonkeyPatch, way: str, device: str, is_left: bool
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(torch.nn.Module, "to", lambda module, *options, **more: module)
    WAYS[way](device)
    assert torch.backends.cudnn.allow_tf32 is is_left
