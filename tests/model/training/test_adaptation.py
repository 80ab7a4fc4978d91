from __future__ import annotations

import numpy as np
import pytest

from model.engines.base import InputRange
from model.records import Outline, Polygon, Record
from model.scaling import scaled_size
from model.training.adaptation import (
    MOST_OBJECTS,
    anchor_sizes,
    input_size,
    iterations_for,
    object_sides,
    objects_per_image,
    repeat_factor,
)

LARGE = InputRange(shortest=800, longest=1333, largest=1667, visible=16, anchor=32)
KNOWN = InputRange(shortest=192, longest=256, largest=512, visible=8, anchor=16)


def photo(*sides: float, size_hw: tuple[int, int] = (600, 800), label: str = "leaf") -> Record:
    """An image of square objects with these sides."""
    squares = [np.array([[0, 0], [side, 0], [side, side], [0, side]], float) for side in sides]
    return Record("a.png", size_hw, tuple(Outline(label, (Polygon(square),)) for square in squares))


def test_an_objects_side_is_a_share_of_the_images_shortest_side() -> None:
    assert object_sides([photo(60, 300), photo()]) == pytest.approx([0.1, 0.5])
    assert object_sides([]).shape == (0,)


def test_large_objects_keep_the_usual_input_and_anchors() -> None:
    leaves = [photo(300, 400, 500)]
    size = input_size(leaves, KNOWN)
    assert size == (192, 256)
    assert anchor_sizes(leaves, size, KNOWN) == (16, 32, 64, 128, 256)


def test_small_objects_get_a_larger_input_and_smaller_anchors() -> None:
    lesions = [photo(*range(16, 30))]  # 5 to 9 px at the usual input
    size = input_size(lesions, KNOWN)
    assert size[0] > 192 and size[1] / size[0] == pytest.approx(256 / 192, rel=0.02)
    seen = np.quantile(object_sides(lesions), 0.1) * min(scaled_size((600, 800), *size))
    assert KNOWN.visible / 1.25 <= seen
    assert anchor_sizes(lesions, size, KNOWN)[0] < 16


def test_the_input_of_wide_photos_grows_as_well_and_no_photo_gets_more_than_is_affordable() -> None:
    assert input_size([photo(*range(10, 20), size_hw=(2160, 3840))], LARGE) == (1000, 1666)
    square = input_size([photo(*range(10, 20), size_hw=(3000, 3000))], LARGE)
    assert square[0] > 1000 and max(square) <= LARGE.largest


@pytest.mark.parametrize("side", [0.5, 4, 600])
def test_every_object_of_4_to_600_px_is_near_an_anchor(side: float) -> None:
    records = [photo(side, size_hw=(1200, 1600))]
    size = input_size(records, KNOWN)
    pixels = side / 1200 * min(scaled_size((1200, 1600), *size))
    anchors = np.array(anchor_sizes(records, size, KNOWN))
    assert (anchors >= 4).all() and (np.diff(anchors) > 0).all()
    assert side < 1 or np.abs(np.log2(anchors / max(pixels, 4))).min() <= 1


def test_the_input_is_bounded_by_cost_and_by_the_photos_themselves() -> None:
    assert max(scaled_size((3000, 4000), *input_size([photo(4, size_hw=(3000, 4000))], KNOWN))) <= 512
    assert max(scaled_size((300, 900), *input_size([photo(1, size_hw=(300, 900))], KNOWN))) <= 512
    assert input_size([photo(1, size_hw=(110, 110))], KNOWN)[0] <= 220


def test_large_and_small_objects_together_are_spanned() -> None:
    both = [photo(*[10] * 10, *[560] * 10)]
    anchors = anchor_sizes(both, (192, 256), KNOWN)
    assert anchors[0] == pytest.approx(4, abs=0.1) and anchors[-1] >= 170


def test_a_single_large_object_among_many_small_ones_moves_no_anchor() -> None:
    assert anchor_sizes([photo(*[10] * 40, 560)], (192, 256), KNOWN) == (4, 8, 16, 32, 64)


def test_a_few_more_annotations_change_nothing() -> None:
    rng = np.random.default_rng(0)
    first = [photo(*rng.uniform(20, 200, 5)) for _ in range(40)]
    more = [*first, photo(*rng.uniform(20, 200, 5))]
    size = input_size(first, KNOWN)
    assert size == input_size(more, KNOWN)
    assert anchor_sizes(first, size, KNOWN) == anchor_sizes(more, size, KNOWN)


def test_without_objects_all_is_as_usual() -> None:
    assert input_size([photo()], KNOWN) == (192, 256)
    assert anchor_sizes([photo()], (192, 256), KNOWN) == (16, 32, 64, 128, 256)


def test_of_an_object_only_what_is_in_the_image_counts() -> None:
    inside, beyond = photo(100), photo(100)
    ring = np.array([[500, 100], [9000, 100], [9000, 400], [500, 400]], float)
    cut = np.array([[500, 100], [800, 100], [800, 400], [500, 400]], float)
    beyond = Record("b.png", (600, 800), (*inside.outlines, Outline("leaf", (Polygon(ring),))))
    inside = Record("b.png", (600, 800), (*inside.outlines, Outline("leaf", (Polygon(cut),))))
    assert object_sides([beyond]) == pytest.approx(object_sides([inside]))
    assert anchor_sizes([beyond] * 5, (192, 256), KNOWN) == anchor_sizes([inside] * 5, (192, 256), KNOWN)


def test_outlines_without_an_extent_in_the_image_make_no_input_larger() -> None:
    line = Polygon(np.array([[10, 10], [200, 10], [90, 10]], float))
    outside = Polygon(np.array([[-90, -90], [-10, -90], [-10, -10]], float))
    sliver = Polygon(np.array([[10, 10], [200, 10], [200, 10.4], [10, 10.4]], float))
    leaves = photo(300, 400, 500)
    strays = tuple(Outline("leaf", (part,)) for part in (line, outside, sliver))
    with_strays = Record(leaves.image, leaves.size_hw, (*leaves.outlines, *strays))
    assert object_sides([with_strays]) == pytest.approx(object_sides([leaves]))
    assert input_size([with_strays], KNOWN) == input_size([leaves], KNOWN) == (192, 256)


def test_training_takes_longer_with_more_images() -> None:
    assert [iterations_for(images, 240) for images in (5, 30, 120, 3000)] == [240, 240, 480, 2400]
    assert [iterations_for(images, 240, 0.75) for images in (5, 30, 480, 2430)] == [240, 240, 1920, 6480]


def test_rare_classes_are_repeated_up_to_twice() -> None:
    def images(**counts: int) -> list[Record]:
        return [photo(9, label=label) for label, count in counts.items() for _ in range(count)]

    assert repeat_factor(images(rust=10, miner=10)) == 1
    assert repeat_factor(images(rust=20, miner=20, phoma=10)) == pytest.approx(2**0.5)
    assert repeat_factor(images(rust=90, miner=90, phoma=1)) == 2
    assert repeat_factor([photo()]) == 1
    crowded = [photo(*[9] * 8, label="phoma"), photo(9, label="phoma")]
    assert repeat_factor([*images(rust=2), *crowded]) == 1, "images count, not objects"


@pytest.mark.parametrize(("most", "wanted"), [(0, 100), (50, 100), (51, 200), (100, 200), (101, 400), (375, 800)])
def test_twice_as_many_objects_are_looked_for_as_the_most_crowded_image_has(most: int, wanted: int) -> None:
    assert objects_per_image([photo(20), photo(*[9.0] * most)], 100) == wanted


def test_nobody_looks_for_objects_without_end() -> None:
    assert objects_per_image([photo(*[9.0] * 2000)], 100) == MOST_OBJECTS
    assert objects_per_image([], 100) == 100
