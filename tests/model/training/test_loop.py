from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.engines.base import Engine, EngineConfig
from model.engines.fake import FakeEngine
from model.engines.loader import build_engine
from model.errors import BadRecord
from model.records import Outline, Polygon, Record
from model.scaling import Scaling, scaled_image, scaled_size
from model.training.loop import EARLIEST_STOP, LONGEST_GRADIENT, Progress, TrainingConfig, factors_of, train

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


class Noisy(FakeEngine):
    """Its loss is drawn by torch, as dropout is."""

    def losses(self, images: Any, targets: Any) -> dict[str, torch.Tensor]:
        return {name: 0 * loss + torch.rand(()) for name, loss in super().losses(images, targets).items()}


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


def test_no_step_is_longer_than_the_longest_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = fake_engine()
    start, losses = engine.tensors()["colours"].clone(), engine.losses
    monkeypatch.setattr(engine, "losses", lambda *batch: {name: 1e6 * loss for name, loss in losses(*batch).items()})
    gentle = config(iterations=1, learning_rate=1e-3, warmup_iterations=0, optimizer="sgd", weight_decay=0.0)
    train(engine, RECORDS, picture, gentle)
    assert (engine.tensors()["colours"] - start).norm() == pytest.approx(1e-3 * LONGEST_GRADIENT, rel=1e-3)


def measured(values: list[float | None]) -> Callable[[], float | None]:
    return iter(values).__next__


def test_training_stops_where_it_gets_no_better() -> None:
    engine, kept, values = fake_engine(), [], iter([0.1, 0.5, 0.5, 0.4, 0.501, 0.9])

    def validate() -> float:
        kept.append(engine.tensors()["colours"].clone())
        return next(values)

    trained = train(engine, RECORDS, picture, config(eval_period=5, patience=3), validate=validate)
    assert trained.steps == 25, "three looks without progress after the best"
    assert (trained.kept_step, trained.evaluations[-1]) == (25, (25, 0.501))
    assert torch.equal(engine.tensors()["colours"], kept[4])


def test_a_network_that_has_learned_nothing_yet_is_not_stopped() -> None:
    looks = measured([0.0, 0.0, 0.0, 0.001, 0.0, 0.0])
    assert train(fake_engine(), RECORDS, picture, config(eval_period=5, patience=3), validate=looks).steps == 30


def test_nothing_stops_before_the_learning_rate_has_fallen() -> None:
    looks = measured([0.5, 0.4, 0.4, 0.4])
    trained = train(fake_engine(), RECORDS, picture, config(eval_period=5, patience=1), validate=looks)
    assert trained.steps == EARLIEST_STOP * 30


@pytest.mark.parametrize(("last", "kept"), [(0.19, 0), (0.21, 2), (0.4, 2)])
def test_the_last_weights_are_kept_unless_they_are_clearly_worse(last: float, kept: int) -> None:
    engine, weights, values = fake_engine(), [], iter([0.3, 0.2, last])

    def validate() -> float:
        weights.append(engine.tensors()["colours"].clone())
        return next(values)

    trained = train(engine, RECORDS, picture, config(iterations=12, eval_period=5), validate=validate)
    assert trained.evaluations == ((5, 0.3), (10, 0.2), (12, last))
    assert (trained.kept_step, trained.steps) == ((5, 10, 12)[kept], 12)
    assert torch.equal(engine.tensors()["colours"], weights[kept])


def test_of_equally_good_weights_the_later_ones_are_kept() -> None:
    looks = measured([0.3, 0.3, 0.1])
    trained = train(fake_engine(), RECORDS, picture, config(iterations=15, eval_period=5), validate=looks)
    assert trained.kept_step == 10


def test_nothing_stops_before_there_is_a_look_to_compare_with() -> None:
    looks = measured([0.5, 0.4, 0.4])
    assert train(fake_engine(), RECORDS, picture, config(eval_period=10, patience=2), validate=looks).steps == 30


def test_without_truth_on_the_validation_images_nothing_stops_early() -> None:
    trained = train(fake_engine(), RECORDS, picture, config(eval_period=5, patience=1), validate=measured([None] * 6))
    assert (trained.steps, trained.evaluations) == (30, ())


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
