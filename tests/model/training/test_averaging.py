from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.training.averaging import MeanWeights
from model.training.loop import Progress, TrainingConfig, train
from tests.model.training.test_loop import RECORDS, fake_engine, picture


def trained(**changes: object) -> torch.Tensor:
    engine = fake_engine()
    train(engine, RECORDS, picture, TrainingConfig(**{"iterations": 12, "learning_rate": 0.05, **changes}))
    return engine.tensors()["colours"]


def test_a_mean_follows_the_weights_and_is_young_at_first() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    mean = MeanWeights([weight], 0.9)
    with torch.no_grad():
        weight.fill_(1.0)
    mean.update(1)
    assert mean.values[0].item() == pytest.approx(1 - 1 / 11)
    for step in range(200, 260):
        mean.update(step)
    assert mean.values[0].item() == pytest.approx(1, abs=0.01)


def test_the_weights_come_back_after_their_means_stood_in() -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    mean = MeanWeights([weight], 0.5)
    with torch.no_grad():
        weight.fill_(4.0)
    with mean.in_place():
        assert weight.tolist() == [0, 0]
    assert weight.tolist() == [4, 4] and mean.values[0].tolist() == [0, 0]


def test_what_training_keeps_and_measures_are_the_means() -> None:
    engine, seen = fake_engine(), []

    def validate() -> float:
        seen.append(engine.tensors()["colours"].clone())
        return 0.5

    config = TrainingConfig(12, 0.05, averaging=0.9, eval_period=12)
    train(engine, RECORDS, picture, config, validate=validate)
    assert torch.equal(seen[-1], engine.tensors()["colours"])
    assert not torch.allclose(seen[-1], trained()) and torch.equal(seen[-1], trained(averaging=0.9))


def test_weights_and_means_change_places_only_to_be_measured_and_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    swaps, swap = [], MeanWeights.swap
    monkeypatch.setattr(MeanWeights, "swap", lambda mean: (swaps.append(mean), swap(mean)))
    train(
        fake_engine(),
        RECORDS,
        picture,
        TrainingConfig(12, 0.05, averaging=0.9, eval_period=6),
        validate=lambda: 0.5,
    )
    assert len(swaps) == 2 + 2 + 1, "each copies all weights"


def test_keeping_nothing_of_the_mean_is_the_last_weights() -> None:
    assert torch.allclose(trained(averaging=0.0), trained())


class Killed(BaseException):
    """The process is gone."""


def test_a_killed_run_goes_on_with_its_mean(tmp_path: Path) -> None:
    path, settings = tmp_path / "training.safetensors", {"averaging": 0.9, "checkpoint_period": 5}
    config = TrainingConfig(12, 0.05, **settings)

    def kill(progress: Progress) -> None:
        if progress.step == 7:
            raise Killed

    with pytest.raises(Killed):
        train(fake_engine(), RECORDS, picture, config, kill, checkpoint=path)
    engine = fake_engine()
    train(engine, RECORDS, picture, config, checkpoint=path)
    assert torch.allclose(engine.tensors()["colours"], trained(**settings), atol=1e-6)


def test_a_share_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"averaging must lie in 0\.\.1 and be below 1, got 1"):
        TrainingConfig(1, 0.1, averaging=1)
