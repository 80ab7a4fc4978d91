from __future__ import annotations

import numpy as np
import pytest

from sampling.strategies import STRATEGIES

CERTAINTIES = np.array([0.9, 0.1, np.nan, 0.5])
NOTHING_FOUND = np.isnan(CERTAINTIES)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", STRATEGIES)
def test_scores_are_one_number_in_0_to_1_for_each_image(name: str) -> None:
    before = CERTAINTIES.copy()
    scores = STRATEGIES[name](CERTAINTIES, rng())
    assert scores.shape == CERTAINTIES.shape
    assert np.isfinite(scores[~NOTHING_FOUND]).all()
    assert ((scores >= 0) & (scores <= 1) | np.isnan(scores)).all()
    assert np.array_equal(STRATEGIES[name](CERTAINTIES, rng()), scores, equal_nan=True), "same seed, same order"
    assert np.array_equal(CERTAINTIES, before, equal_nan=True), "the input stays as it was"
    assert not np.shares_memory(scores, CERTAINTIES)


@pytest.mark.parametrize("name", STRATEGIES)
def test_no_image_has_no_score(name: str) -> None:
    assert STRATEGIES[name](np.array([], float), rng()).shape == (0,)


@pytest.mark.parametrize("name", ["uncertainty", "certainty"])
def test_nothing_found_stays_nan_where_certainty_decides(name: str) -> None:
    assert np.array_equal(np.isnan(STRATEGIES[name](CERTAINTIES, rng())), NOTHING_FOUND)


def test_uncertainty_serves_the_least_certain_first() -> None:
    assert list(STRATEGIES["uncertainty"](np.array([0.9, 0.1, 0.5]), rng())) == [0.9, 0.1, 0.5]


def test_certainty_serves_the_most_certain_first() -> None:
    assert STRATEGIES["certainty"](np.array([0.9, 0.1, 0.5]), rng()) == pytest.approx([0.1, 0.9, 0.5])


def test_random_ranks_every_image_once_whatever_was_found() -> None:
    scores = STRATEGIES["random"](CERTAINTIES, rng())
    assert sorted(scores) == [0, 0.25, 0.5, 0.75]


def test_random_follows_the_seed() -> None:
    certainties = np.zeros(50)
    assert list(STRATEGIES["random"](certainties, rng(1))) != list(STRATEGIES["random"](certainties, rng(2)))
