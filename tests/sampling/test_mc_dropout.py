from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sampling.mc_dropout import ScoringConfig, dropout_on, score
from sampling.uncertainty import class_counts
from tests.sampling.passes import FakePass, fake_pass, rectangle

IMAGE = np.full((10, 10, 3), 128, np.uint8)


class SeededDropout(nn.Dropout):
    """Draws from its own generator where one is set, as model.engines.dropout does."""

    generator: torch.Generator | None = None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return input
        keep = torch.empty_like(input).bernoulli_(1 - self.p, generator=self.generator)
        return input * keep / (1 - self.p)


class FakeModel:
    """Finds one square whose class probabilities come out of a head with dropout."""

    def __init__(self) -> None:
        head = nn.Linear(32, 3)
        with torch.no_grad():
            head.weight.copy_(torch.linspace(-0.2, 0.2, 96).reshape(3, 32))
            head.bias.zero_()
        self.network = nn.Sequential(nn.BatchNorm1d(32), SeededDropout(0.5), head).eval()
        self.images_encoded = 0

    def encode(self, images: Sequence[np.ndarray], *, exact: bool = False) -> list[Any]:
        self.images_encoded += len(images)
        return [torch.linspace(0, 2, 32)[None] * float(image.mean() / 255) for image in images]

    @torch.no_grad()
    def sample(self, encoded: Any, passes: int) -> list[FakePass]:
        softmaxes = self.network(encoded.expand(passes, -1)).softmax(1)
        return [fake_pass(rectangle(2, 6, 2, 6), softmax=tuple(row)) for row in softmaxes.tolist()]


class BlindModel(FakeModel):
    """Never finds anything."""

    def sample(self, encoded: Any, passes: int) -> list[FakePass]:
        return [fake_pass()] * passes


class ScriptedModel(FakeModel):
    """Finds a large square and a tall object in the first pass, the tall one shorter in the second, then nothing."""

    def sample(self, encoded: Any, passes: int) -> list[FakePass]:
        square, tall, shorter = rectangle(0, 5, 5, 10), rectangle(0, 10, 0, 1), rectangle(0, 6, 0, 1)
        return [fake_pass(square, tall), fake_pass(shorter), *[fake_pass()] * (passes - 2)]


def score_with_seed(model: FakeModel, seed: int) -> float:
    [encoded] = model.encode([IMAGE])
    return score(model, encoded, ScoringConfig(), torch.Generator().manual_seed(seed)).certainty


def test_the_same_seed_gives_the_same_value() -> None:
    model = FakeModel()
    assert score_with_seed(model, 3) == score_with_seed(model, 3) == score_with_seed(FakeModel(), 3)


def test_another_seed_gives_another_value() -> None:
    assert score_with_seed(FakeModel(), 3) != score_with_seed(FakeModel(), 4)


def test_scoring_leaves_the_global_generator_alone() -> None:
    model, state = FakeModel(), torch.random.get_rng_state()
    score_with_seed(model, 3)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_value_is_a_certainty() -> None:
    assert 0 < score_with_seed(FakeModel(), 3) < 1


def test_an_image_without_detections_is_nan() -> None:
    assert math.isnan(score_with_seed(BlindModel(), 3))


@pytest.mark.parametrize(
    ("config", "value"),
    [
        (ScoringConfig(passes=4, iou_threshold=0.6, mode="mean"), 0.25),  # IoU 0.6 is not above: three objects
        (ScoringConfig(passes=2, iou_threshold=0.6, mode="mean"), 0.5),
        (ScoringConfig(passes=4, iou_threshold=0.5, mode="min"), 0.25),
        (ScoringConfig(passes=4, iou_threshold=0.5, mode="max"), 0.5 * 0.8 * (0.8 + 0.75) / 2),
    ],
)
def test_passes_threshold_and_mode_reach_the_value(config: ScoringConfig, value: float) -> None:
    assert score(ScriptedModel(), None, config, torch.Generator()).certainty == pytest.approx(value)


def test_an_encoded_image_is_not_encoded_again() -> None:
    model = FakeModel()
    score_with_seed(model, 3)
    assert model.images_encoded == 1


def test_dropout_is_on_inside_and_off_again_afterwards() -> None:
    network = FakeModel().network
    norm, dropout, head = network
    generator = torch.Generator()
    with dropout_on(network, generator):
        assert (norm.training, dropout.training, head.training, network.training) == (False, True, False, False)
        assert dropout.generator is generator
    assert not any(module.training for module in network.modules())
    assert dropout.generator is None


def test_the_ordinary_prediction_does_not_change_by_scoring() -> None:
    model = FakeModel()
    [encoded] = model.encode([IMAGE])
    before = model.sample(encoded, 1)[0].softmaxes
    score_with_seed(model, 3)
    assert np.array_equal(model.sample(encoded, 1)[0].softmaxes, before)


def test_everything_is_restored_after_an_error() -> None:
    network = FakeModel().network
    with pytest.raises(RuntimeError, match="out of memory"), dropout_on(network, torch.Generator()):
        raise RuntimeError("out of memory")
    assert not any(module.training for module in network.modules())
    assert network[1].generator is None


def test_a_network_in_training_is_scored_in_eval_and_trains_on() -> None:
    network = FakeModel().network.train()
    network[1].generator = own = torch.Generator()
    with dropout_on(network, torch.Generator()):
        assert [module.training for module in network] == [False, True, False]
        assert network[1].generator is not own
    assert all(module.training for module in network.modules())
    assert network[1].generator is own


def test_a_plain_dropout_layer_is_turned_on_and_gets_no_generator() -> None:
    network = nn.Sequential(nn.Dropout(0.5)).eval()
    with dropout_on(network, torch.Generator()):
        assert network[0].training
        assert not hasattr(network[0], "generator")
    assert not network[0].training


def test_a_network_without_dropout_is_refused() -> None:
    with (
        pytest.raises(ValueError, match=r"got a network without any.*dropout_probability"),
        dropout_on(nn.Linear(2, 2), torch.Generator()),
    ):
        pytest.fail("must not come this far")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"passes": 0}, "passes must be at least 1, got 0"),
        ({"iou_threshold": 1.5}, r"iou_threshold must lie in 0..1, got 1.5"),
        ({"iou_threshold": -0.1}, r"iou_threshold must lie in 0..1, got -0.1"),
        ({"iou_threshold": float("nan")}, r"iou_threshold must lie in 0..1, got nan"),
        ({"mode": "sum"}, "mode must be one of mean, min, max, got 'sum'"),
    ],
)
def test_a_bad_setting_is_refused_at_birth(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScoringConfig(**setting)


def test_class_counts_are_the_mean_over_the_passes() -> None:
    seen = [fake_pass(rectangle(0, 5, 0, 5), rectangle(6, 9, 6, 9), softmax=(0.5, 0.25)), fake_pass()]
    assert class_counts(seen) == pytest.approx([0.5, 0.25])
    assert list(class_counts([fake_pass()])) == [0, 0]


def test_exact_keeps_the_published_fault_and_the_default_mends_it() -> None:
    class HalfEmpty(FakeModel):
        def sample(self, encoded: Any, passes: int) -> list[FakePass]:
            return [fake_pass(rectangle(2, 6, 2, 6), rectangle(0, 0, 0, 0))] * passes

    values = {e: score(HalfEmpty(), None, ScoringConfig(exact=e), torch.Generator()).certainty for e in (True, False)}
    assert math.isnan(values[True])
    assert values[False] == pytest.approx(0.5), "one object is certain, the other has no pixel"
