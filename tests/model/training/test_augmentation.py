from __future__ import annotations

import numpy as np

from model.training.augmentation import Augmentation

SIZE_HW = (40, 60)


def test_an_image_that_becomes_smaller_stays_whole_and_a_larger_one_fills_the_canvas_anywhere() -> None:
    change, places = Augmentation(mirror=0.5, zoom=2.0), []
    for seed in range(200):
        matrix = change.placement(SIZE_HW, np.random.default_rng(seed))
        ends = matrix[:, :2] @ np.array([[0, SIZE_HW[1]], [0, SIZE_HW[0]]]) + matrix[:, 2:]  # x and y of two corners
        first, last = ends.min(1), ends.max(1)
        room = np.array(SIZE_HW[::-1]) - (last - first)
        assert (first >= np.minimum(room, 0) - 1e-9).all() and (first <= np.maximum(room, 0) + 1e-9).all()
        places += list(first[abs(room) > 1] / room[abs(room) > 1])
    assert 60 < len(places) / 2 < 140, "half of them change their size"
    assert min(places) < 0.1 and max(places) > 0.9 and abs(np.mean(places) - 0.5) < 0.1


def test_a_grey_image_stays_grey_and_becomes_no_lighter_or_darker_than_the_light_says() -> None:
    grey, change = np.full((4, 4, 3), 100, np.uint8), Augmentation(light=0.25)
    seen = np.array([change.relight(grey, np.random.default_rng(seed)) for seed in range(200)], int)
    assert np.ptp(seen, axis=(1, 2, 3)).max() <= 1, "rounded"
    assert 75 <= seen.min() < 80 and 120 < seen.max() <= 125
    assert 60 < (seen[:, 0, 0, 0] == 100).sum() < 140, "half of them stay as they are"
