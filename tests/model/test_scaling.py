from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from model.scaling import detectron2_size, pillow_image, scaled_image, scaled_size


@pytest.mark.parametrize(
    ("size_hw", "shortest", "longest", "scaled"),
    [
        ((100, 200), 50, 1000, (50, 100)),
        ((200, 100), 50, 1000, (100, 50)),
        ((100, 200), 50, 80, (40, 80)),
        ((10, 20), 50, 1000, (50, 100)),
        ((1, 1000), 50, 100, (1, 100)),
        ((40, 60), 40, 60, (40, 60)),
    ],
)
def test_images_are_scaled_to_the_shortest_side_within_the_longest(
    size_hw: tuple[int, int], shortest: int, longest: int, scaled: tuple[int, int]
) -> None:
    assert scaled_size(size_hw, shortest, longest) == scaled


def test_fine_stripes_become_grey_where_an_image_shrinks() -> None:
    stripes = np.zeros((64, 96, 3), np.uint8)
    stripes[:, ::2] = 254
    assert np.array_equal(scaled_image(stripes, (16, 24)), np.full((16, 24, 3), 127))


def test_an_image_that_grows_is_interpolated() -> None:
    edge = np.zeros((2, 2, 3), np.uint8)
    edge[:, 1] = 100
    assert scaled_image(edge, (4, 4))[0, :, 0].tolist() == [0, 25, 75, 100]


@pytest.mark.parametrize(
    ("size_hw", "scaled"),
    [
        ((480, 640), (800, 1067)),  # 1066.67
        ((427, 640), (800, 1199)),  # 1199.06
        ((400, 1000), (533, 1333)),  # 533.2, limited by the longest side
        ((375, 1001), (499, 1333)),  # 499.38
        ((1600, 1601), (800, 801)),  # 800.5: up, where round() goes to the even one
        ((3, 4000), (1, 1333)),
    ],
)
def test_detectron2_rounds_halves_upwards(size_hw: tuple[int, int], scaled: tuple[int, int]) -> None:
    assert detectron2_size(size_hw, 800, 1333) == scaled
    assert detectron2_size(size_hw[::-1], 800, 1333) == scaled[::-1]


def test_detectron2_scales_by_pillow_on_bytes() -> None:
    image = np.random.default_rng(0).integers(0, 256, (31, 47, 3), np.uint8)
    for size_hw in [(17, 23), (60, 91)]:
        wanted = Image.fromarray(image).resize(size_hw[::-1], Image.Resampling.BILINEAR)
        assert np.array_equal(pillow_image(image, size_hw), np.asarray(wanted))
        assert pillow_image(image, size_hw).flags.writeable
