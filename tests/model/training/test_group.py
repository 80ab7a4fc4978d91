"""Training in a group of processes, as several GPUs have it; here two of them on the CPU."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing

from model.engines.base import EngineConfig
from model.engines.loader import build_engine
from model.training import loop
from model.training.loop import Progress, TrainingConfig, _average, _batches, train
from tests.model.training.squares import CLASSES, RECORDS, fake_engine, picture

PROCESSES = 2


def take_part(rank: int, folder: Path) -> None:
    """One process: trains, and leaves its weights and the steps that it told of."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=PROCESSES)
    torch.manual_seed(rank)
    engine = build_engine("torchvision", CLASSES, EngineConfig("nano"))
    config = TrainingConfig(3, 1e-4, batch_size=2, eval_period=2, patience=5)
    told: list[Progress] = []
    trained = train(engine, RECORDS, picture, config, told.append, validate=lambda: 0.5)
    found = {"weights": engine.tensors(), "told": len(told), "evaluations": trained.evaluations}
    torch.save(found, folder / f"{rank}.pt")
    distributed.destroy_process_group()


def test_each_process_is_given_its_own_part_of_every_batch_also_from_a_later_step_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def shown(rank: int, processes: int, step: int) -> list[list[float]]:
        monkeypatch.setattr(loop, "place_in_group", lambda: (rank, processes))
        config = TrainingConfig(3, 1e-4, batch_size=4, num_workers=0)
        batches = _batches(fake_engine(), RECORDS, picture, config, frozenset(), step)
        return [[float(image.sum()) for image, _ in batch] for batch in islice(batches, 2)]

    whole = [*shown(0, 1, 0), *shown(0, 1, 2)]
    assert shown(0, 2, 1) == [batch[0::2] for batch in whole[1:3]]
    assert shown(1, 2, 1) == [batch[1::2] for batch in whole[1:3]]


def test_the_mean_gradient_lies_in_memory_as_its_parameter_does(tmp_path: Path) -> None:
    """Fused optimizers walk through the memory of both side by side."""
    distributed.init_process_group("gloo", f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        weights = torch.randn(4, 3, 2, 2).contiguous(memory_format=torch.channels_last)
        parameter, gradient = torch.nn.Parameter(weights), torch.randn(4, 3, 2, 2)
        _average([gradient], [parameter])
    finally:
        distributed.destroy_process_group()
    assert parameter.grad is not None and parameter.grad.stride() == parameter.stride()
    assert torch.equal(parameter.grad, gradient)


def test_processes_share_their_batches_and_keep_the_same_weights(tmp_path: Path) -> None:
    multiprocessing.spawn(take_part, (tmp_path,), PROCESSES)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(PROCESSES))
    parameters = [name for name in first["weights"] if "running" not in name and "num_batches" not in name]
    assert all(torch.equal(first["weights"][name], second["weights"][name]) for name in parameters)
    assert (first["told"], second["told"]) == (3, 0), "the first process speaks for all"
    assert first["evaluations"] == second["evaluations"] == ((2, 0.5), (3, 0.5))
