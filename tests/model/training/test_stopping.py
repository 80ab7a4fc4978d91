"""When a training stops early, and which of its weights are kept."""

from __future__ import annotations

import pytest
import torch

from model.training.loop import EARLIEST_STOP, train
from tests.model.training.squares import (
    RECORDS,
    config,
    fake_engine,
    measured,
    picture,
)


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
