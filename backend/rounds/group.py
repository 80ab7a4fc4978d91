"""A round's training on several GPUs of one machine: one process each, by torch's own launcher."""

from __future__ import annotations

import gc
import sys
import time
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from backend.errors import BadSetting, ProcessFailed
from backend.project.folder import ProjectFolder
from backend.project.workplace import Workplace, open_workplace
from backend.rounds.devices import device_of, gpus_alike
from backend.rounds.folder import Report, Round
from backend.rounds.learning import train_round
from backend.settings import Settings
from backend.system.processes import Processes
from model.errors import is_out_of_memory
from model.files import read_json, write_json

POLL_S = 0.5
LAUNCHER = "torch.distributed.run"

LONGEST_WAIT = timedelta(hours=2)
"""How long the others wait for the first process while it looks at the validation images."""


def processes_of(place: Workplace) -> int:
    """How many processes train together: the project's setting, else one for each GPU of the first one's kind.

    As many of these as share a batch evenly. Raises BadSetting for a number that does not divide the batch, or
    that asks for more GPUs than there are.
    """
    batch, wanted, device = place.config.train_batch_size, place.config.train_processes, device_of(place)
    if wanted is None:
        alike = gpus_alike() if device == "cuda" else 1
        return next(n for n in range(max(1, min(alike, batch)), 0, -1) if batch % n == 0)
    if batch % wanted:
        raise BadSetting(f"train_processes must divide train_batch_size ({batch}), got {wanted}; change one of them")
    gpus = torch.cuda.device_count() if device == "cuda" else 1
    if wanted > 1 and device != "cpu" and wanted > gpus:
        raise BadSetting(f"train_processes: {wanted} needs as many GPUs, device {device!r} has {gpus}; set it lower")
    return wanted


def train_together(place: Workplace, current: Round, processes: int, report: Report) -> None:
    """`train_round` by a group of processes.

    ProcessFailed if they do not bring it to its end, MemoryError if that was for want of memory.
    """
    if torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()  # what this process kept is wanted by the group
    argv = [sys.executable, "-m", LAUNCHER, "--standalone", f"--nproc-per-node={processes}", "-m", "backend.cli"]
    log, progress = current.path / "training.log", current.path / "progress.json"
    with Processes() as group:
        group.start("training", [*argv, "train-part", place.folder.uid, str(current.state.number)], log=log)
        [child] = group.children
        while child.process.poll() is None:
            time.sleep(POLL_S)
            told: dict[str, Any] = read_json(progress) if progress.exists() else {"step": "train", "share": 0.0}
            report(**told)
    progress.unlink(missing_ok=True)
    if child.process.returncode or not current.weights.exists():
        if (line := _said_without_memory(log.read_bytes()[child.log_start :])) is not None:
            raise MemoryError(f"training in {processes} processes: {line}")
        raise ProcessFailed(
            f"training in {processes} processes ended with code {child.process.returncode}; its output is in {log}; "
            "set `train_processes: 1` to train in one"
        )


def _said_without_memory(output: bytes) -> str | None:
    """The first line in which a process says that memory ran out; None where none does."""
    lines = output.decode(errors="replace").splitlines()
    return next((line for line in lines if "MemoryError" in line or is_out_of_memory(RuntimeError(line))), None)


def take_part(settings: Settings, uid: str, number: int) -> None:
    """One process of the group, as the launcher starts it."""
    folder = ProjectFolder(settings.data_dir / "projects" / uid)
    current, place = Round(folder.rounds / str(number)), open_workplace(settings, folder)
    distributed.init_process_group("nccl" if device_of(place).startswith("cuda") else "gloo", timeout=LONGEST_WAIT)
    if device_of(place) == "cuda":
        torch.cuda.set_device(distributed.get_rank())
    told_at = 0.0

    def report(step: str, share: float, **details: Any) -> None:
        nonlocal told_at
        if time.monotonic() - told_at > POLL_S:
            write_json(current.path / "progress.json", {"step": step, "share": share, **details})
            told_at = time.monotonic()

    train_round(place, current, report)
    distributed.destroy_process_group()
