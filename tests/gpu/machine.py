"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import subprocess

import cv2
import numpy as np
import torch
import torchvision

from model.engines.torchvision.precision import has_bfloat16
from tests.gpu.checks import Job, Measured


def check(job: Job) -> None:
    """The machine, its versions, and how torch computes as it is."""
    job.check("versions", versions)
    job.check("device", lambda: device_facts(job.device))


def versions() -> Measured:
    found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }
    return Measured(found)


def device_facts(device: torch.device) -> Measured:
    threads = {"cores": os.cpu_count(), "threads": torch.get_num_threads(), "bfloat16": has_bfloat16(device)}
    if device.type == "cpu":
        return Measured({"name": platform.processor() or platform.machine(), **threads})
    facts = torch.cuda.get_device_properties(device)
    found = {
        "name": facts.name,
        "capability": f"{facts.major}.{facts.minor}",
        "memory_mib": facts.total_memory >> 20,
        "driver": driver(),
        "tf32_by_default": {
            "convolutions": torch.backends.cudnn.allow_tf32,
            "products": torch.backends.cuda.matmul.allow_tf32,
        },
        **threads,
    }
    return Measured(found)


def driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError) as err:
        return f"unknown ({err})"
