"""The device that a project computes on: the GPU where there is one that this PyTorch can use."""

from __future__ import annotations

import re
from pathlib import Path

import torch
import torchvision

from backend.errors import BadSetting, NoDevice
from backend.project.workplace import Workplace

DRIVER = Path("/proc/driver/nvidia/gpus")
"""Where NVIDIA's driver lists its GPUs on Linux, also those that a container was not given."""

GUIDE = "https://pytorch.org/get-started/locally/"

LOOK = (
    "check `nvidia-smi` and CUDA_VISIBLE_DEVICES, and that a container is given the GPU; after an update of the driver "
    "restart the machine"
)


def device_of(place: Workplace) -> str:
    """The device that a project computes on; NoDevice if its setting asks for a GPU that cannot be used."""
    return choose_device(place.config.device)


def choose_device(wanted: str | None) -> str:
    """The device that is wanted, else the GPU if there is one that can be used, else the CPU.

    Raises BadSetting for a name that is none, NoDevice for a GPU that cannot be used.
    """
    try:
        device = torch.device(wanted or "cuda")
    except RuntimeError as err:
        raise BadSetting(f"device must be cpu, cuda or cuda:1, got {wanted!r}; correct it") from err
    obstacle = _obstacle(device) if device.type == "cuda" else ""
    if wanted is None:
        return "cpu" if obstacle else "cuda"
    if obstacle:
        raise NoDevice(f"device {wanted!r} is set but cannot be used: {obstacle}; or set `device: cpu`")
    return wanted


def device_in_words(wanted: str | None) -> str:
    """What `choose_device` answers, for people; and why a GPU that is there is not used."""
    name = choose_device(wanted)
    if name.startswith("cuda"):
        return f"{name}, {torch.cuda.get_device_name(name)}"
    has_gpu = DRIVER.is_dir() and any(DRIVER.iterdir())
    unused = f"; the GPU is not used: {_obstacle(torch.device('cuda'))}" if has_gpu and wanted is None else ""
    return f"{name}, {torch.get_num_threads()} threads{unused}"


def gpus_alike() -> int:
    """How many GPUs from the first one on are of its kind: a small one beside it, for the screen, trains nothing."""
    count = torch.cuda.device_count()
    kinds = [torch.cuda.get_device_name(index) for index in range(count)]
    return next((index for index in range(count) if kinds[index] != kinds[0]), count)


def _obstacle(device: torch.device) -> str:
    """Why a GPU cannot be used, and what mends that; empty if it can be."""
    if torch.version.cuda is None and torch.version.hip is None:
        return f"this PyTorch was built without CUDA; install one with it ({GUIDE})"
    if not torch.cuda.is_available():
        return f"PyTorch finds none ({_said()}); {LOOK}"
    count, index = torch.cuda.device_count(), device.index or 0
    if index >= count:
        return f"PyTorch finds {count}, and counts from 0; {LOOK}"
    if not _has_code_for(index):
        capability = "{}.{}".format(*torch.cuda.get_device_capability(index))
        return (
            f"{torch.cuda.get_device_name(index)} has compute capability {capability}, and PyTorch {torch.__version__} "
            f"computes on {', '.join(torch.cuda.get_arch_list())}; install it and torchvision for that GPU, such as "
            f"those for CUDA 12.6 ({GUIDE})"
        )
    if torch.version.cuda is not None and torch.ops.torchvision._cuda_version() == -1:
        return (
            f"torchvision {torchvision.__version__} was built without CUDA, PyTorch {torch.__version__} with it; "
            f"install the one that belongs to it ({GUIDE})"
        )
    return ""


def _said() -> str:
    """What PyTorch says of a driver that it cannot use."""
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as err:
        return " ".join(str(err).split())
    return "it does not say why"


def _has_code_for(index: int) -> bool:
    """Whether PyTorch can compute on a GPU: where it cannot, it says so only once something should be computed.

    It holds machine code, sm_75 for compute capability 7.5, that later GPUs of the same generation can run, and maybe
    code that is compiled for any later GPU, compute_90. Where it does not say what it holds, it is taken for enough.
    """
    if torch.version.hip is not None:
        return True
    capability = torch.cuda.get_device_capability(index)
    found = [re.fullmatch(r"(sm|compute)_(\d+)(\d)[a-z]?", name) for name in torch.cuda.get_arch_list()]
    codes = [(code[1], (int(code[2]), int(code[3]))) for code in found if code]
    return not codes or any(own <= capability and (kind == "compute" or own[0] == capability[0]) for kind, own in codes)
