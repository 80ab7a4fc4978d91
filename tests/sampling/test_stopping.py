from __future__ import annotations

import numpy as np
import pytest

from sampling.stopping import Measurement, compare_with_chance, look_ahead

IMAGES = (70, 90, 110, 130, 150, 170, 190, 210)


def measured(aps: list[float] | np.ndarray, deviation: float = 0.02) -> list[Measurement]:
    return [Measurement(n, float(ap), deviation) for n, ap in zip(IMAGES, aps, strict=True)]


def doubling(gain: float) -> np.ndarray:
    return 0.4 + gain * np.log2(np.array(IMAGES) / IMAGES[0])


def test_the_gain_ahead_is_that_of_the_line_through_what_was_measured() -> None:
    outlook = look_ahead(measured(doubling(0.1)))
    assert outlook is not None and (outlook.measurements, outlook.ahead) == (8, 105)
    assert outlook.gain == pytest.approx(0.1 * np.log2(1.5)) and outlook.low < outlook.gain < outlook.high
    assert not outlook.is_flat


def test_a_level_curve_is_flat_and_one_that_falls_too() -> None:
    for gain in (0.0, -0.05):
        outlook = look_ahead(measured(doubling(gain)))
        assert outlook is not None and outlook.is_flat


def test_what_cannot_be_told_for_noise_is_not_told() -> None:
    scattered = [0.5 + 0.08 * (-1) ** number for number in range(len(IMAGES))]
    outlook = look_ahead(measured(scattered))
    assert outlook is not None and outlook.low < 0 < outlook.high and not outlook.is_flat
    of_few_images = look_ahead(measured(doubling(0.0), deviation=0.2))
    assert of_few_images is not None and not of_few_images.is_flat


def test_it_takes_six_measurements_with_different_numbers_of_images() -> None:
    assert look_ahead([]) is None and look_ahead(measured(doubling(0.0))[:5]) is None
    assert look_ahead(measured(doubling(0.0))[:6]) is not None
    assert look_ahead([Measurement(50, 0.5, 0.02)] * 8) is None, "trained again on the same images"


def test_what_was_learned_long_ago_says_nothing_of_today() -> None:
    first = [Measurement(10, 0.05, 0.02), Measurement(15, 0.2, 0.02)]
    assert look_ahead([*first, *measured(doubling(0.0))]) == look_ahead(measured(doubling(0.0)))


def test_the_order_of_the_measurements_does_not_matter() -> None:
    rows = measured(doubling(0.03) + np.linspace(0, 0.02, 8) ** 2)
    assert look_ahead(rows[::-1]) == look_ahead(rows)


def test_shared_validation_images_tell_more_than_others_would() -> None:
    """Of the chance of which images validate, most is the same for all versions."""
    outlook = look_ahead(measured(doubling(0.0), deviation=0.04))
    assert outlook is not None
    slope = 0.04 / (np.log(IMAGES).std() * len(IMAGES) ** 0.5)  # its deviation, were nothing shared
    assert outlook.high < 0.7 * 1.943 * slope * np.log(1.5), "1.943 is Student's t of 95 % with 6 degrees of freedom"


def test_images_without_deviation_can_be_measured() -> None:
    outlook = look_ahead(measured([1.0] * 8, deviation=0.0))
    assert outlook is not None and outlook.is_flat and outlook.high > outlook.gain == pytest.approx(0.0)


def shares(mean: float, count: int) -> list[float]:
    """Shares of wrong objects, four objects in each image."""
    return (np.random.default_rng(1).binomial(4, mean, count) / 4).tolist()


def test_as_many_errors_as_by_chance_are_hardly_worth_choosing() -> None:
    same = compare_with_chance(shares(0.4, 300), shares(0.4, 300))
    assert same is not None and same.low < 1 < same.high < 1.25 and same.hardly_pays
    twice = compare_with_chance(shares(0.8, 300), shares(0.4, 300))
    assert twice is not None and twice.low > 1.5 and not twice.hardly_pays
    assert twice.times == pytest.approx(twice.chosen_errors / twice.chance_errors)


def test_too_few_images_say_nothing_of_choosing() -> None:
    assert compare_with_chance(shares(0.4, 39), shares(0.4, 100)) is None
    assert compare_with_chance(shares(0.4, 100), shares(0.4, 19)) is None
    few = compare_with_chance(shares(0.4, 40), shares(0.4, 20))
    assert few is not None and (few.chosen, few.by_chance) == (40, 20) and not few.hardly_pays


def test_where_chance_finds_no_errors_there_is_nothing_to_compare_with() -> None:
    assert compare_with_chance(shares(0.4, 100), [0.0] * 100) is None


def test_one_image_with_errors_among_those_by_chance_says_nothing_of_choosing() -> None:
    """Where that one came by luck, choosing finds many times the errors of chance."""
    assert compare_with_chance([0.04] * 1000, [1.0] + [0.0] * 19) is None
    assert compare_with_chance(shares(0.4, 100), [0.0] * 99 + [0.5]) is None
    four = compare_with_chance([0.04] * 1000, [0.5] * 4 + [0.0] * 16)
    assert four is not None and four.high > 1.2 * four.times
