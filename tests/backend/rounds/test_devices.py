from __future__ import annotations

from pathlib import Path

import pytest
import torch

from backend.errors import BadSetting, NoDevice
from backend.rounds import devices
from backend.rounds.devices import choose_device, device_in_words, device_of
from tests.backend.gpus import pretend_gpus
from tests.backend.round_places import workplace

OLD, TURING, NEW = (6, 1), (7, 5), (8, 9)


def test_the_gpu_is_used_where_there_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend_gpus(monkeypatch, NEW)
    assert choose_device(None) == device_of(workplace(tmp_path)) == "cuda"
    assert choose_device("cpu") == "cpu"
    assert device_in_words(None) == "cuda, GeForce RTX 4090"


@pytest.mark.parametrize(
    ("capability", "codes", "is_used"),
    [
        (OLD, None, False),
        (TURING, None, True),
        (NEW, None, True),
        ((12, 0), ["sm_75", "sm_90a"], False),
        ((12, 0), ["sm_75", "compute_90"], True),
        (NEW, ["sm_86"], True),
        (NEW, ["sm_100", "compute_120"], False),
        (NEW, [], True),
    ],
)
def test_a_gpu_that_torch_has_no_code_for_is_not_used(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], codes: list[str] | None, is_used: bool
) -> None:
    pretend_gpus(monkeypatch, capability, codes=codes)
    assert choose_device(None) == ("cuda" if is_used else "cpu")


def test_a_gpu_that_is_set_and_too_old_is_told_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpus(monkeypatch, NEW, OLD)
    assert choose_device("cuda:0") == "cuda:0"
    with pytest.raises(NoDevice, match=r"GeForce GTX 1080 has compute capability 6\.1, .*sm_75.*; install it and"):
        choose_device("cuda:1")


def test_a_torch_without_cuda_is_told_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(NoDevice, match=r"device 'cuda' is set but .*built without CUDA; install one with it"):
        choose_device("cuda")
    assert choose_device(None) == "cpu"


def test_a_torchvision_without_cuda_beside_a_torch_with_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpus(monkeypatch, NEW)
    monkeypatch.setattr(torch.ops.torchvision, "_cuda_version", lambda: -1)
    assert choose_device(None) == "cpu"
    with pytest.raises(NoDevice, match=r"torchvision .* was built without CUDA, PyTorch .* with it; install the one"):
        choose_device("cuda")


def test_what_torch_says_of_a_driver_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def init() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old\n (found version 12040).")

    pretend_gpus(monkeypatch)
    monkeypatch.setattr(torch.cuda, "init", init)
    with pytest.raises(NoDevice, match=r"\(The NVIDIA driver on your system is too old \(found version 12040\)\.\)"):
        choose_device("cuda")


@pytest.mark.parametrize("name", ["cuda:2", "cuda:99"])
def test_a_gpu_beyond_the_last_one_is_told(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pretend_gpus(monkeypatch, NEW, NEW)
    with pytest.raises(NoDevice, match=f"'{name}' is set but cannot be used: PyTorch finds 2"):
        choose_device(name)


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(BadSetting, match="device must be cpu, cuda or cuda:1, got 'gpu:1'"):
        choose_device("gpu:1")


@pytest.mark.parametrize(("gpus", "told"), [(["0000:01:00.0"], True), ([], False)])
def test_that_a_gpu_is_there_and_not_used_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gpus: list[str], told: bool
) -> None:
    for gpu in gpus:
        (tmp_path / gpu).mkdir()
    monkeypatch.setattr(devices, "DRIVER", tmp_path)
    pretend_gpus(monkeypatch, OLD)
    assert ("the GPU is not used: GeForce GTX 1080 has compute" in device_in_words(None)) is told
    assert "not used" not in device_in_words("cpu")
