"""A training that was killed goes on from its checkpoint."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from model.engines.base import Engine, EngineConfig
from model.engines.fake import FakeEngine
from model.engines.loader import build_engine
from model.training.loop import Progress, train
from tests.model.training.squares import (
    CLASSES,
    RECORDS,
    Noisy,
    config,
    fake_engine,
    measured,
    picture,
)


class Killed(Exception):
    pass


def killed_at(
    step: int,
    checkpoint: Path,
    *,
    engine: Engine | None = None,
    validate: Callable[[], float | None] | None = None,
    **changes: Any,
) -> Engine:
    """An engine whose training stops after a step, as if killed; its checkpoint lies in the file."""

    def kill(progress: Progress) -> None:
        if progress.step > step:
            raise Killed

    engine, settings = engine or fake_engine(), config(checkpoint_period=step, **changes)
    with pytest.raises(Killed):
        train(engine, RECORDS, picture, settings, kill, validate=validate, checkpoint=checkpoint)
    return engine


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("threads", [0, 2])
def test_a_killed_training_goes_on_as_if_nothing_had_been(tmp_path: Path, optimizer: str, threads: int) -> None:
    changes = {"optimizer": optimizer, "num_workers": threads}
    path = tmp_path / "training.safetensors"
    killed_at(12, path, **changes)
    engine, told = fake_engine(), []
    trained = train(engine, RECORDS, picture, config(checkpoint_period=12, **changes), told.append, checkpoint=path)
    whole = fake_engine()
    expected = train(whole, RECORDS, picture, config(checkpoint_period=12, **changes))
    assert [progress.step for progress in told] == list(range(13, 31))
    assert torch.equal(engine.tensors()["colours"], whole.tensors()["colours"])
    assert (trained.loss, trained.steps) == (expected.loss, 30)


def test_what_torch_draws_goes_on_after_a_kill(tmp_path: Path) -> None:
    def drawn(checkpoint: Path | None) -> list[float]:
        told: list[float] = []
        tell = lambda progress: told.append(progress.loss)  # noqa: E731
        noisy = Noisy(CLASSES, EngineConfig())
        train(noisy, RECORDS, picture, config(iterations=6, checkpoint_period=3), tell, checkpoint=checkpoint)
        return told

    path = tmp_path / "training.safetensors"
    killed_at(3, path, engine=Noisy(CLASSES, EngineConfig()), iterations=6)
    assert drawn(path) == drawn(None)[3:]


def test_a_killed_training_still_has_the_weights_of_its_best_look(tmp_path: Path) -> None:
    path, settings = tmp_path / "training.safetensors", {"iterations": 15, "eval_period": 5}
    killed_at(6, path, validate=measured([0.5]), **settings)
    engine, whole = fake_engine(), fake_engine()
    settings |= {"checkpoint_period": 6}
    trained = train(engine, RECORDS, picture, config(**settings), validate=measured([0.1, 0.1]), checkpoint=path)
    train(whole, RECORDS, picture, config(**settings), validate=measured([0.5, 0.1, 0.1]))
    assert (trained.kept_step, trained.evaluations) == (5, ((5, 0.5), (10, 0.1), (15, 0.1)))
    assert torch.equal(engine.tensors()["colours"], whole.tensors()["colours"])


def test_a_network_goes_on_with_the_same_losses(tmp_path: Path, device: str) -> None:
    def losses(**changes: Any) -> list[float]:
        torch.manual_seed(0)
        engine, told = build_engine("torchvision", CLASSES, EngineConfig("nano")).to(device), []

        def tell(progress: Progress) -> None:
            told.append(progress.loss)
            if changes.get("kill_at") == progress.step:
                raise Killed

        settings = config(iterations=6, batch_size=2, learning_rate=1e-4, checkpoint_period=3)
        train(engine, RECORDS, picture, settings, tell, checkpoint=changes.get("checkpoint"))
        return told

    path = tmp_path / "training.safetensors"
    with pytest.raises(Killed):
        losses(checkpoint=path, kill_at=4)
    rounding = 1e-3 if device == "cpu" else 0.15  # a GPU adds gradients up in any order
    assert losses(checkpoint=path) == pytest.approx(losses()[3:], rel=rounding)


def test_a_checkpoint_of_other_settings_or_a_broken_one_is_not_gone_on_with(tmp_path: Path) -> None:
    path, told = tmp_path / "training.safetensors", []
    killed_at(12, path)
    train(fake_engine(), RECORDS, picture, config(checkpoint_period=12, seed=9), told.append, checkpoint=path)
    assert told[0].step == 1
    told.clear()
    renamed = build_engine("fake", CLASSES[::-1], EngineConfig())
    killed_at(12, path)
    train(renamed, RECORDS, picture, config(checkpoint_period=12), told.append, checkpoint=path)
    assert told[0].step == 1
    path.write_bytes(b"torn")
    told.clear()
    train(fake_engine(), RECORDS, picture, config(iterations=2), told.append, checkpoint=path)
    assert [progress.step for progress in told] == [1, 2]


class Clock:
    """Goes on by so many seconds each time that somebody looks."""

    def __init__(self, step_s: int) -> None:
        self.monotonic = itertools.count(0.0, step_s).__next__


def test_a_checkpoint_is_written_once_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    monkeypatch.setattr("model.training.loop.time", Clock(7))
    monkeypatch.setattr("model.training.loop.save_state", lambda path, state, *rest: saved.append(state.step))
    train(fake_engine(), RECORDS, picture, config(), checkpoint=tmp_path / "training.safetensors")
    assert saved == [9, 18, 27], "nine looks at the clock are 63 seconds"


def test_the_seconds_of_all_attempts_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "training.safetensors"
    monkeypatch.setattr("model.training.loop.time", Clock(1))
    killed_at(12, path)
    trained = train(fake_engine(), RECORDS, picture, config(checkpoint_period=12), checkpoint=path)
    assert trained.seconds == (12 + 1) + (18 + 2), "each step, each start, and the checkpoint of step 24"


def test_weights_that_are_no_numbers_are_not_gone_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bad gradient is over with the next attempt, unless what it made of the weights was kept."""
    engine, checkpoint, usual = fake_engine(), tmp_path / "training.safetensors", FakeEngine.losses
    steps = itertools.count()

    def losses(self: FakeEngine, *batch: Any) -> dict[str, torch.Tensor]:
        bad = {"bad": (self.network.colours * 0).sqrt().sum()} if next(steps) == 9 else {}
        return {**usual(self, *batch), **bad}

    monkeypatch.setattr(FakeEngine, "losses", losses)
    with pytest.raises(FloatingPointError, match=r"no longer numbers|became nan"):
        train(engine, RECORDS, picture, config(checkpoint_period=1), checkpoint=checkpoint)
    assert train(fake_engine(), RECORDS, picture, config(checkpoint_period=1), checkpoint=checkpoint).steps == 30
