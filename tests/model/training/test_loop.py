from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch

from model.engines.base import EngineConfig
from model.engines.fake import FakeEngine
from model.errors import BadRecord
from model.records import Outline, Polygon, Record
from model.scaling import Scaling, scaled_image, scaled_size
from model.training.loop import LONGEST_GRADIENT, Progress, factors_of, train
from tests.model.training.squares import (
    CLASSES,
    CORNERS,
    RECORDS,
    Noisy,
    config,
    fake_engine,
    picture,
    trained_colours,
)


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
    loss = train(engine, RECORDS, picture, config(iterations=80), lambda progress: losses.append(progress.loss)).loss
    assert not any(module.training for module in engine.network.modules())
    assert loss == pytest.approx(np.mean(losses[-8:]))
    assert loss < losses[0] / 10


def test_progress_comes_after_every_step() -> None:
    told, begun_at = list[Progress](), time.monotonic()
    train(fake_engine(), RECORDS, picture, config(iterations=7), told.append)
    spent_s = time.monotonic() - begun_at
    assert [progress.step for progress in told] == [1, 2, 3, 4, 5, 6, 7]
    assert {progress.steps for progress in told} == {7}
    assert all(progress.loss > 0 for progress in told)
    assert all(0 < progress.seconds_per_step * progress.step < spent_s + 0.001 for progress in told), "rounded"
    assert (told[3].seconds_left, told[6].seconds_left) == (3 * told[3].seconds_per_step, 0)


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


def test_the_seed_decides_on_what_torch_draws() -> None:
    def drawn(seed: int) -> list[float]:
        told: list[float] = []
        settings = config(iterations=3, seed=seed)
        train(Noisy(CLASSES, EngineConfig()), RECORDS, picture, settings, lambda progress: told.append(progress.loss))
        return told

    assert drawn(1) == drawn(1) != drawn(2)


def test_images_are_changed_as_much_as_is_set_and_scaled_as_the_engine_does() -> None:
    engine, scaled = fake_engine(), list[tuple[int, int]]()

    def darkened(image: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
        scaled.append(size_hw)
        return scaled_image(image // 2, size_hw)

    engine.scaling = Scaling(scaled_size, darkened)
    told = list[float]()
    still = config(iterations=2, zoom=1.0, light=0.0, learning_rate=1e-9, weight_decay=0.0)
    train(engine, RECORDS, picture, still, lambda progress: told.append(progress.loss))
    assert scaled == [(64, 64)] * 4
    assert told[0] == pytest.approx(told[1], rel=1e-4), "each picture shows the same colours, mirrored or not"


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
    assert train(engine, [empty], picture, config(iterations=3)).loss == 0
    assert torch.isfinite(engine.tensors()["colours"]).all()


def test_training_without_records_is_refused() -> None:
    with pytest.raises(BadRecord, match="at least one annotated image outside of the validation split, got none"):
        train(fake_engine(), [], picture, config())


def test_a_loss_that_is_no_number_stops_the_training_before_the_weights_follow() -> None:
    engine = fake_engine()
    engine.load_tensors({"colours": torch.full((2, 3), float("inf"))}, CLASSES)
    with pytest.raises(FloatingPointError, match="loss became nan; lower learning_rate or lengthen warmup_iterations"):
        train(engine, RECORDS, picture, config())


def test_a_gradient_that_is_no_number_stops_the_training_even_in_its_last_step(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = fake_engine()
    monkeypatch.setattr(engine, "losses", lambda *batch: {"loss": (engine.network.colours * 0).sqrt().sum()})
    with pytest.raises(FloatingPointError, match="weights are no longer numbers; lower learning_rate or lengthen"):
        train(engine, RECORDS, picture, config(iterations=1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iterations": 0}, "iterations must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"learning_rate": 0}, "learning_rate must be above 0, got 0"),
        ({"learning_rate": -0.1}, "learning_rate must be above 0, got -0.1"),
        ({"optimizer": "adam"}, "optimizer must be one of adamw, sgd, got 'adam'"),
        ({"replay": 1}, r"replay must lie in 0\.\.1 and be below 1, got 1"),
        ({"learning_policy": "linear"}, "learning_policy must be .*steps_with_decay.*got 'linear'"),
    ],
)
def test_a_bad_setting_is_refused_at_birth(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**changes)


def red_and_blue(*labels: tuple[str, ...]) -> list[Record]:
    square = Polygon(np.array([[0, 0], [9, 0], [9, 9]], float))
    return [Record(str(i), (9, 9), tuple(Outline(n, (square,)) for n in names)) for i, names in enumerate(labels)]


def test_pictures_of_a_rare_class_come_more_often() -> None:
    records = red_and_blue(("red",), ("red",), ("red",), ("blue", "blue"))
    factors = factors_of(records, config(repeat_factor_smallest_class=2.0), frozenset())
    assert list(factors) == pytest.approx([(4 / 3) ** 0.5] * 3 + [2])
    assert list(factors_of(records, config(), frozenset())) == [1, 1, 1, 1]


def test_minority_classes_say_which_class_is_the_smallest() -> None:
    records = red_and_blue(("red",), ("red",), ("red",), ("blue",))
    changes = {"repeat_factor_smallest_class": 1.2}
    by_red = factors_of(records, config(**changes, minority_classes=("red",)), frozenset())
    by_absent = factors_of(records, config(**changes, minority_classes=("red", "green")), frozenset())
    assert by_red[0] == pytest.approx((1 / 0.75) ** 0.5) and by_red[3] == pytest.approx(2)
    assert list(by_absent) == [1, 1, 1, 1], "as in MaskAL, where a minority class is absent nothing is repeated"


def test_replay_decides_the_share_of_old_pictures() -> None:
    records = red_and_blue(*[("red",)] * 10)
    factors = factors_of(records, config(replay=0.25), frozenset({"0", "1"}))
    assert factors[2:].sum() / factors.sum() == pytest.approx(0.25)
    assert list(factors_of(records, config(replay=0.25), frozenset())) == [1] * 10


def test_no_step_is_longer_than_the_longest_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = fake_engine()
    start, losses = engine.tensors()["colours"].clone(), engine.losses
    monkeypatch.setattr(engine, "losses", lambda *batch: {name: 1e6 * loss for name, loss in losses(*batch).items()})
    gentle = config(iterations=1, learning_rate=1e-3, warmup_iterations=0, optimizer="sgd", weight_decay=0.0)
    train(engine, RECORDS, picture, gentle)
    assert (engine.tensors()["colours"] - start).norm() == pytest.approx(1e-3 * LONGEST_GRADIENT, rel=1e-3)


class Small(FakeEngine):
    """Has memory for so many images at once; its loss is a mean over the images."""

    def __init__(self, images: int) -> None:
        super().__init__(CLASSES, EngineConfig())
        self.images = images

    def losses(self, images: Any, targets: Any) -> dict[str, torch.Tensor]:
        if len(images) > self.images:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return {name: loss / len(images) for name, loss in super().losses(images, targets).items()}


@pytest.mark.parametrize(("images", "batch", "parts"), [(1, 4, 4), (2, 3, 2)])
def test_a_batch_too_large_for_the_memory_is_computed_in_parts(
    images: int, batch: int, parts: int, caplog: pytest.LogCaptureFixture
) -> None:
    engine, whole = Small(images), Small(4)
    trained, expected = (train(e, RECORDS, picture, config(batch_size=batch)) for e in (engine, whole))
    assert trained.loss == pytest.approx(expected.loss, abs=1e-5)
    assert f"not enough memory for a batch of {batch}, from now on in {parts} parts" in caplog.text
    assert torch.allclose(engine.tensors()["colours"], whole.tensors()["colours"], atol=1e-5)


def test_one_image_too_large_for_the_memory_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        train(Small(0), RECORDS, picture, config())
