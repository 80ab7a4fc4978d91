from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest

from model.training.schedule import (
    decay_steps,
    epoch_order,
    iterations,
    learning_rate_factor,
    repeat_factors,
    repeat_threshold,
)
from tests.shared import shared


def examples(kind: str) -> list[dict[str, Any]]:
    found = json.loads(shared("maskal_examples.json").read_text())["training"]
    assert {example["kind"] for example in found} == {"calculate_iterations", "repeat_threshold"}
    return [example for example in found if example["kind"] == kind]


@pytest.mark.parametrize("index", range(4))
def test_iterations_and_steps_are_those_of_the_original(index: int) -> None:
    found = examples("calculate_iterations")
    assert len(found) == 4, "every worked example is checked"
    example = found[index]
    total = iterations(
        example["num_train_images"],
        base=example["train_iterations_base"],
        step_size=example["train_iterations_step_size"],
        step_image_number=example["step_image_number"],
    )
    assert total == example["expected"]["max_iterations"]
    assert list(decay_steps(total, example["step_ratios"])) == example["expected"]["steps"]


@pytest.mark.parametrize("index", range(3))
def test_repeat_factors_are_those_of_the_original(index: int) -> None:
    found = examples("repeat_threshold")
    assert len(found) == 3, "every worked example is checked"
    example = found[index]
    labels = example["category_ids_per_image"]
    minority = [example["classes"].index(name) for name in example["minority_classes"]]
    threshold = repeat_threshold(labels, minority, example["repeat_factor_smallest_class"])
    assert threshold == pytest.approx(example["expected"]["threshold"], abs=1e-6)
    assert repeat_factors(labels, threshold) == pytest.approx(example["expected"]["image_repeat_factors"], abs=1e-6)


@pytest.mark.parametrize(("images", "total"), [(1, 10), (5, 10), (6, 13), (10, 13), (11, 16)])
def test_iterations_grow_when_a_step_of_images_is_exceeded(images: int, total: int) -> None:
    assert iterations(images, base=10, step_size=3, step_image_number=5) == total


def test_the_rate_drops_at_shares_of_the_iterations() -> None:
    assert decay_steps(2500, (0.5, 0.8)) == (1250, 2000)


def test_no_image_has_no_iterations() -> None:
    with pytest.raises(ValueError, match="at least one annotated image, got 0"):
        iterations(0, base=10, step_size=3, step_image_number=5)


def test_no_class_is_repeated_when_a_minority_class_is_absent() -> None:
    threshold = repeat_threshold([[0], [0], [1]], [1, 2], 3.0)
    assert threshold == 0
    assert list(repeat_factors([[0], [0], [1]], threshold)) == [1, 1, 1]


def test_no_minority_class_and_no_image_repeat_nothing() -> None:
    assert repeat_threshold([[0], [1]], [], 3.0) == 0
    assert repeat_threshold([], [0], 3.0) == 0
    assert list(repeat_factors([], 0)) == []


def test_an_image_without_objects_is_shown_once() -> None:
    assert list(repeat_factors([[], [0], [1], [1]], 1.0)) == pytest.approx([1, 2, 2**0.5, 2**0.5])


def test_many_objects_of_a_class_in_one_image_count_once() -> None:
    assert repeat_threshold([[0, 0, 0], [1]], [0], 1.0) == 0.5


def test_warm_up_rises_in_equal_steps_to_the_full_rate() -> None:
    factors = [learning_rate_factor(step, 10, 3, "steps_with_decay", [], 0.1) for step in range(5)]
    assert factors == [0.25, 0.5, 0.75, 1, 1]


def test_the_rate_drops_at_each_step() -> None:
    factors = [learning_rate_factor(step, 8, 0, "steps_with_decay", (3, 6), 0.1) for step in range(8)]
    assert factors == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01])


def test_cosine_falls_from_one_over_a_half_to_zero() -> None:
    factors = [learning_rate_factor(step, 12, 2, "cosine", (), 0.1) for step in range(2, 13)]
    assert factors[0] == 1
    assert factors[5] == pytest.approx(0.5)
    assert factors[-1] == pytest.approx(0)
    assert factors == sorted(factors, reverse=True)


def test_an_unknown_policy_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="must be one of cosine, steps_with_decay, got 'linear'"):
        learning_rate_factor(5, 10, 0, "linear", (), 0.1)


def test_an_epoch_shows_whole_factors_so_often_and_fractions_at_random() -> None:
    rng = np.random.default_rng(0)
    counts = [Counter(epoch_order(np.array([1.0, 2.0, 2.5]), rng)) for _ in range(400)]
    assert {count[0] for count in counts} == {1}
    assert {count[1] for count in counts} == {2}
    assert {count[2] for count in counts} == {2, 3}
    assert np.mean([count[2] for count in counts]) == pytest.approx(2.5, abs=0.1)


def test_an_epoch_is_shuffled_by_the_generator() -> None:
    def order(seed: int) -> list[int]:
        return epoch_order(np.ones(30), np.random.default_rng(seed))

    assert sorted(order(1)) == list(range(30))
    assert order(1) == order(1) != order(2)
    assert order(1) != list(range(30))
