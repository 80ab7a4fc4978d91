"""GPUs that this machine has not, as far as torch tells of them before it computes."""

from __future__ import annotations

import pytest
import torch

NAMES = {(6, 1): "GeForce GTX 1080", (7, 5): "GeForce RTX 2080 Ti", (8, 9): "GeForce RTX 4090", (12, 0): "RTX 5090"}
WHEEL = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]
"""What PyTorch 2.12 for CUDA 13.0 computes on."""


def pretend_gpus(
    monkeypatch: pytest.MonkeyPatch, *capabilities: tuple[int, int], codes: list[str] | None = None
) -> None:
    """Let torch tell of GPUs of these compute capabilities."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.ops.torchvision, "_cuda_version", lambda: 13000)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(capabilities))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capabilities[_index(device)])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: NAMES[capabilities[_index(device)]])
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: WHEEL if codes is None else codes)


def _index(device: int | str) -> int:
    return device if isinstance(device, int) else torch.device(device).index or 0
