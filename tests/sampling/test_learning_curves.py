from __future__ import annotations

import numpy as np
import pytest

from sampling.learning_curves import Curve, cost_to_reach, gain_over, interval, mean_height, share_of_random

RANDOM = Curve((10, 20, 30, 40), (0.1, 0.2, 0.3, 0.4))


def test_a_cost_between_two_steps_is_found_on_the_line() -> None:
    assert cost_to_reach(RANDOM, 0.25) == pytest.approx(25)
    assert cost_to_reach(RANDOM, 0.4) == 40
    assert cost_to_reach(RANDOM, 0.05) == 10


def test_what_is_never_reached_has_no_cost() -> None:
    assert cost_to_reach(RANDOM, 0.41) is None


def test_the_best_so_far_counts() -> None:
    assert cost_to_reach(Curve((10, 20, 30), (0.1, 0.4, 0.2)), 0.35) == pytest.approx(10 + 10 * 0.25 / 0.3)


def test_twice_as_fast_is_half_the_share() -> None:
    fast = Curve((10, 20, 30, 40), (0.2, 0.4, 0.5, 0.6))
    found = share_of_random({1: fast, 2: fast}, {1: RANDOM, 2: RANDOM})
    assert (found.mean, found.low, found.high, found.reached) == (0.5, 0.5, 0.5, 2)


def test_random_needs_all_of_its_own_where_its_curve_rises_evenly() -> None:
    assert share_of_random({1: RANDOM}, {1: RANDOM}).mean == 1


def test_the_value_to_reach_is_the_mean_over_the_seeds() -> None:
    """One seed's random ends at 0.4, the other's at 0.2: both have to reach 0.3."""
    low = Curve((10, 20, 30, 40), (0.05, 0.1, 0.15, 0.2))
    found = share_of_random({1: RANDOM, 2: RANDOM}, {1: RANDOM, 2: low})
    assert found.per_seed == pytest.approx((0.75, 0.75))


def test_a_run_that_never_gets_there_counts_as_all_and_is_told() -> None:
    slow = Curve((10, 20, 30, 40), (0.1, 0.15, 0.2, 0.25))
    fast = Curve((10, 20), (0.1, 0.4))
    found = share_of_random({1: slow, 2: fast}, {1: RANDOM, 2: RANDOM})
    assert found.per_seed == (None, 0.5)
    assert (found.mean, found.reached) == (0.75, 1)
    assert found.low is not None and found.high is not None and found.low < 0.5 and found.high > 1


def test_a_run_that_spends_more_and_still_fails_counts_with_what_it_spent() -> None:
    costly = Curve((10, 40, 80), (0.1, 0.3, 0.2))
    assert share_of_random({1: costly}, {1: RANDOM}).mean == 2


def test_nothing_is_saved_where_random_outlined_nothing() -> None:
    nothing = Curve((0, 0), (0.0, 0.1))
    found = share_of_random({1: Curve((0, 8), (0.0, 0.2)), 2: nothing}, {1: nothing, 2: nothing})
    assert (found.per_seed, found.mean) == ((None, None), 1)


def test_curves_of_other_seeds_are_not_compared() -> None:
    with pytest.raises(ValueError, match="at least one of the same seeds"):
        share_of_random({1: RANDOM}, {2: RANDOM})


@pytest.mark.parametrize("seeds", [2, 3, 5, 20])
def test_an_interval_holds_the_truth_as_often_as_it_says_however_few_the_seeds(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    bounds = np.array([interval(rng.normal(0.3, 0.1, seeds)) for _ in range(2000)])
    assert ((bounds[:, 0] <= 0.3) & (bounds[:, 1] >= 0.3)).mean() == pytest.approx(0.95, abs=0.015)


def test_one_seed_has_no_interval() -> None:
    gain = gain_over({1: Curve((10, 20), (0.1, 0.3))}, {1: Curve((10, 20), (0.1, 0.2))})
    assert (gain.mean, gain.low, gain.high) == (pytest.approx(0.05), None, None)


def test_a_curve_needs_a_cost_for_each_value() -> None:
    with pytest.raises(ValueError, match="as many costs as values, got 1 and 2"):
        Curve((1.0,), (0.1, 0.2))


def test_an_area_is_the_mean_height_over_the_costs() -> None:
    assert mean_height(RANDOM, 10, 40) == pytest.approx(0.25)
    assert mean_height(RANDOM, 15, 25) == pytest.approx(0.2)
    assert mean_height(Curve((0, 10, 40), (0.0, 0.2, 0.2)), 0, 40) == pytest.approx((10 * 0.1 + 30 * 0.2) / 40)
    with pytest.raises(ValueError, match="costs that do not fall, got 6 to 5"):
        mean_height(RANDOM, 6, 5)


def test_images_without_objects_change_the_value_at_no_cost_in_objects() -> None:
    """0 up to five objects, 1 from there on: half the height, not the triangle before the step as well."""
    assert mean_height(Curve((0, 5, 5, 10), (0.0, 0.0, 1.0, 1.0)), 0, 10) == pytest.approx(0.5)
    assert mean_height(Curve((5, 5, 10), (0.0, 1.0, 1.0)), 5, 10) == pytest.approx(1)
    assert mean_height(Curve((0, 5, 5), (0.0, 0.0, 1.0)), 0, 5) == pytest.approx(0)


def test_a_strategy_that_chose_nothing_but_images_without_objects_is_compared_at_its_only_cost() -> None:
    empty, others = Curve((10, 10, 10), (0.1, 0.15, 0.2)), Curve((10, 20, 30), (0.1, 0.2, 0.3))
    assert gain_over({1: empty}, {1: others}).mean == pytest.approx(0.1)
    assert gain_over({1: others}, {1: empty}).mean == pytest.approx(-0.1)


def test_a_gain_pairs_the_seeds_over_the_costs_that_both_have() -> None:
    """Seed 1 lies 0.1 higher, seed 2 rises from as high to 0.1 higher; what either has alone does not count."""
    higher = Curve((0, 10, 20, 30, 40, 50), (0.9, 0.2, 0.3, 0.4, 0.5, 0.9))
    steeper = Curve((10, 25, 40), (0.1, 0.3, 0.5))
    found = gain_over({1: higher, 2: steeper, 3: RANDOM}, {1: RANDOM, 2: RANDOM})
    assert found.per_seed == pytest.approx((0.1, 0.05))
    assert found.mean == pytest.approx(0.075)
    assert gain_over({1: RANDOM, 2: RANDOM}, {1: higher, 2: steeper}).per_seed == pytest.approx((-0.1, -0.05))


def test_a_gain_needs_a_common_seed() -> None:
    with pytest.raises(ValueError, match="at least one seed"):
        gain_over({1: RANDOM}, {2: RANDOM})
