from __future__ import annotations

import time

import numpy as np
import pytest

from sampling.coverage import Known, ObjectsOfImage, Parts
from sampling.strategies import BY_CERTAINTY, BY_CHANCE, STRATEGIES, Pool, farthest_first

NAN = np.nan
COUNTS = np.array([[1, 0.1], [0, 2], [0, 0], [0.4, 0.6]], np.float32)
EMBEDDINGS = np.array([[0, 0], [1, 0], [5, 5], [0, 1]], np.float32)
POOL = Pool(np.array([0.9, 0.1, NAN, 0.5]), COUNTS, EMBEDDINGS, batch=2)
NOTHING_FOUND = np.isnan(POOL.certainties)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pool_of(certainties: list[float], counts: list[list[float]] | None = None, **more: object) -> Pool:
    rows = np.array(counts, np.float32) if counts else np.zeros((len(certainties), 0))
    return Pool(np.array(certainties), rows, np.zeros((len(certainties), 0)), **more)  # type: ignore[arg-type]


def order(name: str, pool: Pool, seed: int = 0) -> list[int]:
    return [int(i) for i in np.argsort(STRATEGIES[name](pool, rng(seed)), kind="stable")]


@pytest.mark.parametrize("name", STRATEGIES)
def test_scores_are_one_number_in_0_to_1_for_each_image(name: str) -> None:
    before = POOL.certainties.copy()
    scores = STRATEGIES[name](POOL, rng())
    assert scores.shape == (4,)
    assert np.isfinite(scores[~NOTHING_FOUND]).all()
    assert ((scores >= 0) & (scores <= 1) | np.isnan(scores)).all()
    assert len(set(scores[~NOTHING_FOUND])) == 3, "no two share a place"
    assert np.array_equal(STRATEGIES[name](POOL, rng()), scores, equal_nan=True), "same seed, same order"
    assert np.array_equal(POOL.certainties, before, equal_nan=True), "the input stays as it was"
    assert not np.shares_memory(scores, POOL.certainties)


@pytest.mark.parametrize("name", STRATEGIES)
def test_no_image_has_no_score(name: str) -> None:
    assert STRATEGIES[name](pool_of([]), rng()).shape == (0,)


@pytest.mark.parametrize("name", STRATEGIES)
def test_nothing_known_but_the_certainty_is_enough(name: str) -> None:
    assert np.isfinite(STRATEGIES[name](pool_of([0.2, 0.7]), rng())).all()


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - set(BY_CHANCE)))
def test_nothing_found_stays_nan_unless_chance_decides(name: str) -> None:
    assert np.array_equal(np.isnan(STRATEGIES[name](POOL, rng())), NOTHING_FOUND)
    assert np.isnan(STRATEGIES[name](pool_of([NAN, NAN]), rng())).all()


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - set(BY_CERTAINTY)))
def test_equal_images_are_not_served_in_the_order_given(name: str) -> None:
    objects = [ObjectsOfImage(np.ones((1, 3)), np.ones((1, 2)) / 2, np.full(1, 0.5))] * 50
    known = Known(np.zeros((0, 3)), 0.5)
    looks = np.zeros((50, 2))
    equal = Pool(np.full(50, 0.5), np.ones((50, 2), np.float32), looks, objects=objects, known=known)
    assert order(name, equal, 1) != order(name, equal, 2)


def test_uncertainty_serves_the_least_certain_first() -> None:
    assert list(STRATEGIES["uncertainty"](pool_of([0.9, 0.1, 0.5]), rng())) == [0.9, 0.1, 0.5]


def test_certainty_serves_the_most_certain_first() -> None:
    assert STRATEGIES["certainty"](pool_of([0.9, 0.1, 0.5]), rng()) == pytest.approx([0.1, 0.9, 0.5])


def test_random_ranks_every_image_once_whatever_was_found() -> None:
    assert sorted(STRATEGIES["random"](POOL, rng())) == [0, 0.25, 0.5, 0.75]


def test_random_foreground_puts_images_without_any_object_last() -> None:
    pool = pool_of([NAN, 0.3, NAN, 0.9, 0.1, NAN])
    assert set(order("random_foreground", pool)[:3]) == {1, 3, 4}
    assert len({tuple(order("random_foreground", pool, seed)) for seed in range(20)}) > 6


def test_class_turns_draws_from_each_class_in_turn_whatever_the_certainty() -> None:
    pool = pool_of([*np.linspace(0.1, 0.3, 10), 0.6, 0.7], [[1.0, 0.0]] * 10 + [[0.0, 1.0]] * 2)
    orders = [order("class_turns", pool, seed) for seed in range(20)]
    assert all(len({10, 11} & set(found[:4])) == 2 for found in orders)
    assert len({found[0] for found in orders} | {found[1] for found in orders}) > 6


def test_class_turns_leaves_images_that_show_no_class_for_last() -> None:
    pool = pool_of([0.5] * 6, [[1.0, 0.0]] * 2 + [[0.0, 1.0]] * 2 + [[0.0, 0.0]] * 2)
    assert all(set(order("class_turns", pool, seed)[4:]) == {4, 5} for seed in range(5))


def test_class_aware_gives_the_rare_class_its_share() -> None:
    """Ten uncertain images of the common class and two rather certain ones of the rare one."""
    pool = pool_of([*np.linspace(0.1, 0.3, 10), 0.6, 0.7], [[1.0, 0.0]] * 10 + [[0.0, 1.0]] * 2)
    assert order("uncertainty", pool)[:10] == list(range(10))
    assert set(order("class_aware", pool)[:4]) == {0, 1, 10, 11}
    assert order("class_aware", pool)[4:] == list(range(2, 10))


def test_class_aware_serves_the_less_certain_image_of_a_class_first() -> None:
    assert order("class_aware", pool_of([0.8, 0.2, 0.5], [[1.0], [1.0], [1.0]])) == [1, 2, 0]


def test_class_aware_weighs_uncertainty_by_how_much_of_one_object_is_seen() -> None:
    """Nine tenths of an object at full uncertainty before one at 0.85; three of them count as one."""
    assert order("class_aware", pool_of([0.0, 0.15, 0.2, 0.5], [[0.9], [1.0], [0.5], [3.0]])) == [0, 1, 3, 2]


def test_diverse_does_not_serve_two_of_a_kind_in_one_batch() -> None:
    """The three least certain images look the same; a fourth, a bit more certain, looks different."""
    looks = np.array([[0, 0], [0, 0.01], [0.01, 0], [9, 9], [4, 4], [4, 4]], np.float32)
    pool = Pool(np.array([0.1, 0.11, 0.12, 0.2, 0.8, 0.9]), np.ones((6, 1)), looks, batch=2)
    assert order("diverse", pool)[:2] == [0, 3]


def test_diverse_serves_only_from_the_shortlist_of_the_least_certain() -> None:
    looks = np.arange(20, dtype=np.float32)[:, None]
    pool = Pool(np.linspace(0.01, 0.99, 20), np.ones((20, 1)), looks, batch=2)
    assert set(order("diverse", pool)[:2]) <= set(range(6))


def test_farthest_first_goes_to_the_corners() -> None:
    points = np.array([[0, 0], [1, 1], [10, 0], [0, 9], [5, 5]], np.float32)
    assert farthest_first(points, 3) == [0, 2, 3]
    assert farthest_first(points + 20, 3) == [0, 2, 3], "wherever the origin lies"
    assert sorted(farthest_first(points, 9)) == [0, 1, 2, 3, 4]
    assert farthest_first(np.zeros((3, 2)), 3) == [0, 1, 2], "each once, also where all look the same"


def test_stratified_is_noisy_at_first_and_strict_later() -> None:
    certainties = list(np.linspace(0.1, 0.9, 40))
    early, middle, late, later = (
        pool_of(certainties, [[1.0]] * 40, round_number=number, rounds=9) for number in (1, 5, 9, 30)
    )

    def disorder(pool: Pool) -> float:
        places = [np.abs(np.array(order("stratified", pool, seed)) - np.arange(40)).mean() for seed in range(20)]
        return float(np.mean(places))

    assert disorder(early) > 8
    assert 1 < disorder(middle) < 6, "half of the way is a tenth of the noise"
    assert disorder(late) < 1 and disorder(late) == disorder(later)


def test_stratified_gives_classes_two_thirds_and_uncertainty_one() -> None:
    """Late, so that there is next to no noise: the rare class is certain, and still gets every third place."""
    pool = pool_of([*np.linspace(0.1, 0.3, 12), *[0.8] * 6], [[1.0, 0.0]] * 12 + [[0.0, 1.0]] * 6, round_number=20)
    assert [sum(i >= 12 for i in order("stratified", pool)[s : s + 3]) for s in (0, 3, 6, 9)] == [1, 1, 1, 1]


def test_stratified_gives_every_class_its_turn_where_these_are_many() -> None:
    pool = pool_of([*[0.8] * 4, *np.linspace(0.1, 0.3, 12)], [*np.eye(4).tolist(), *[[0.0] * 4] * 12], round_number=20)
    first = order("stratified", pool)
    assert {first[place] for place in (0, 1, 3, 4)} == {0, 1, 2, 3}


def test_the_noise_of_coverage_fades_over_the_planned_rounds() -> None:
    """Thirty objects that are as far apart as can be: without noise the least certain come first."""
    uncertainties = np.linspace(0.9, 0.1, 30)
    objects = [ObjectsOfImage(np.eye(30)[[i]], np.ones((1, 1)), uncertainties[[i]]) for i in range(30)]

    def disorder(noise: float, round_number: int) -> float:
        parts = Parts(uncertainty=1, class_turns=False, noise=noise)
        known = Known(np.zeros((0, 30)), 0.5)
        pool = pool_of([0.5] * 30, objects=objects, known=known, parts=parts, round_number=round_number, rounds=9)
        places = [np.abs(np.array(order("coverage", pool, seed)) - np.arange(30)).mean() for seed in range(10)]
        return float(np.mean(places))

    assert disorder(0, 1) == 0 and disorder(1, 1) > 4 and disorder(1, 9) < 1
    assert disorder(0.1, 1) < disorder(1, 1) / 2


def test_diverse_orders_many_images_in_seconds() -> None:
    pool = Pool(rng().random(30_000), np.zeros((30_000, 0)), rng().random((30_000, 4), np.float32))
    started = time.monotonic()
    assert len(set(order("diverse", pool))) == len(pool)
    assert time.monotonic() - started < 8
