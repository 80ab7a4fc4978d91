from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from model.engines.base import Engine, EngineConfig
from model.engines.loader import build_engine
from model.errors import BadRecord
from model.records import Outline, Polygon, Record
from model.training import Progress, RepeatFactorSampler, TrainingConfig, train

CLASSES = ("red", "blue")
COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220)}
CORNERS = {"red": (4, 4), "blue": (30, 34)}  # left, top of a square of 20 px
NAMES = ("0.png", "1.png", "2.png", "3.png")


def picture(name: str) -> np.ndarray:
    """Grey, 64 x 64, with a red and a blue square, each picture's a little lower."""
    image = np.full((64, 64, 3), 128, np.uint8)
    for label, (left, top) in corners(name).items():
        image[top : top + 20, left : left + 20] = COLOURS[label]
    return image


def corners(name: str) -> dict[str, tuple[int, int]]:
    down = 2 * NAMES.index(name)
    return {label: (left, top + down) for label, (left, top) in CORNERS.items()}


def record(name: str) -> Record:
    squares = {
        label: np.array([[x, y], [x + 20, y], [x + 20, y + 20], [x, y + 20]], float)
        for label, (x, y) in corners(name).items()
    }
    return Record(name, (64, 64), tuple(Outline(label, (Polygon(square),)) for label, square in squares.items()))


RECORDS = [record(name) for name in NAMES]


def fake_engine() -> Engine:
    return build_engine("fake", CLASSES, EngineConfig())


def config(**changes: Any) -> TrainingConfig:
    return TrainingConfig(**{"iterations": 30, "learning_rate": 0.05, "warmup_iterations": 5, **changes})


def trained_colours(**changes: Any) -> torch.Tensor:
    engine = fake_engine()
    train(engine, RECORDS, picture, config(**changes))
    return engine.tensors()["colours"]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_objects_of_four_pictures_are_learned(optimizer: str) -> None:
    engine = fake_engine()
    assert len(engine.predict(picture("0.png"))) == 0, "not known beforehand"
    train(engine, RECORDS, picture, config(iterations=80, optimizer=optimizer))
    found = engine.predict(picture("0.png"))
    assert sorted(found.labels.tolist()) == [0, 1]
    masks = dict(zip(found.labels.tolist(), found.masks, strict=True))
    for label, name in enumerate(CLASSES):
        left, top = CORNERS[name]
        assert masks[label].sum() == 400 and masks[label][top : top + 20, left : left + 20].all()


def test_training_ends_in_eval_mode_with_a_low_loss() -> None:
    engine, losses = fake_engine(), []
    loss = train(engine, RECORDS, picture, config(iterations=80), lambda progress: losses.append(progress.loss))
    assert not any(module.training for module in engine.network.modules())
    assert loss == pytest.approx(np.mean(losses[-8:]))
    assert loss < losses[0] / 10


def test_progress_comes_after_every_step() -> None:
    told: list[Progress] = []
    train(fake_engine(), RECORDS, picture, config(iterations=7), told.append)
    assert [progress.step for progress in told] == [1, 2, 3, 4, 5, 6, 7]
    assert {progress.steps for progress in told} == {7}
    assert all(progress.loss > 0 and progress.seconds_per_step >= 0 for progress in told)


def test_an_error_in_the_progress_callback_stops_the_training() -> None:
    class Cancelled(Exception):
        pass

    told: list[int] = []

    def cancel(progress: Progress) -> None:
        told.append(progress.step)
        if progress.step == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        train(fake_engine(), RECORDS, picture, config(), cancel)
    assert told == [1, 2, 3]


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    first, again, other = trained_colours(seed=1), trained_colours(seed=1), trained_colours(seed=2)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_every_learning_policy_trains_and_they_differ() -> None:
    cosine, steps = (trained_colours(learning_policy=policy) for policy in ("cosine", "steps_with_decay"))
    assert not torch.equal(cosine, steps)
    start = fake_engine().tensors()["colours"]
    assert not torch.equal(cosine, start) and not torch.equal(steps, start)


def test_a_decayed_rate_learns_less() -> None:
    start = fake_engine().tensors()["colours"]

    def moved(gamma: float) -> float:
        changes = {"learning_policy": "steps_with_decay", "step_ratios": (0.5,), "gamma": gamma}
        return float((trained_colours(iterations=20, learning_rate=1e-3, **changes) - start).norm())

    assert moved(1e-9) < 0.7 * moved(1.0)


def test_a_reviewed_empty_picture_can_be_trained_on() -> None:
    empty = Record("0.png", (64, 64), ())
    engine = fake_engine()
    assert train(engine, [empty], picture, config(iterations=3)) == 0
    assert torch.isfinite(engine.tensors()["colours"]).all()


def test_training_without_records_is_refused() -> None:
    with pytest.raises(BadRecord, match="at least one annotated image outside of the validation split, got none"):
        train(fake_engine(), [], picture, config())


def test_a_loss_that_is_no_number_stops_the_training_before_the_weights_follow() -> None:
    engine = fake_engine()
    engine.load_tensors({"colours": torch.full((2, 3), float("inf"))}, CLASSES)
    with pytest.raises(FloatingPointError, match="loss became nan; lower learning_rate or lengthen warmup_iterations"):
        train(engine, RECORDS, picture, config())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iterations": 0}, "iterations must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"learning_rate": 0}, "learning_rate must be above 0, got 0"),
        ({"learning_rate": -0.1}, "learning_rate must be above 0, got -0.1"),
        ({"optimizer": "adam"}, "optimizer must be one of adamw, sgd, got 'adam'"),
        ({"learning_policy": "linear"}, "learning_policy must be .*steps_with_decay.*got 'linear'"),
    ],
)
def test_a_bad_setting_is_refused_at_birth(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_pictures_of_a_rare_class_come_more_often() -> None:
    labels = [[0], [0], [0], [1]]
    sampler = RepeatFactorSampler(labels, repeat_smallest=2.0, seed=0)
    assert list(sampler.factors) == pytest.approx([(4 / 3) ** 0.5] * 3 + [2])
    shown = np.bincount(list(islice(sampler, 4000)), minlength=4)
    assert shown / shown.sum() == pytest.approx(sampler.factors / sampler.factors.sum(), abs=0.02)


def test_every_picture_comes_once_an_epoch_without_repetition() -> None:
    sampler = iter(RepeatFactorSampler([[0], [], [1], [0, 1]], repeat_smallest=1.0, seed=0))
    for _ in range(5):
        assert sorted(islice(sampler, 4)) == [0, 1, 2, 3]


def test_the_order_of_pictures_follows_the_seed() -> None:
    def order(seed: int) -> list[int]:
        return list(islice(RepeatFactorSampler([[0]] * 10, 1.0, seed), 40))

    assert order(1) == order(1) != order(2)
