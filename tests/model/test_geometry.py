import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model.geometry import (
    keyhole,
    mask_to_polygons,
    painted_polygons,
    polygons_to_mask,
    rings_to_mask,
    rings_to_polygons,
    seamed,
    unseamed,
    without_specks,
)
from model.records import Polygon

MASKS = arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14)))


def mask_of(*rows):
    return np.array([[character == "#" for character in row] for row in rows])


def box(x0, y0, x1, y1):
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], float)


def disc(size, radius, center=None):
    canvas = np.zeros((size, size), np.uint8)
    cv2.circle(canvas, center or (size // 2, size // 2), radius, 1, -1)
    return canvas > 0


def iou(one, other):
    return (one & other).sum() / (one | other).sum()


@given(MASKS)
@settings(max_examples=300, deadline=None)
def test_without_tolerance_a_mask_survives_exactly(mask):
    parts = mask_to_polygons(mask, tolerance_px=0)
    assert np.array_equal(polygons_to_mask(parts, mask.shape), mask)


@given(MASKS)
@settings(max_examples=150, deadline=None)
def test_a_keyhole_ring_gives_the_part_with_its_holes(mask):
    for part in mask_to_polygons(mask, tolerance_px=0):
        assert np.array_equal(rings_to_mask([keyhole(part)], mask.shape), polygons_to_mask([part], mask.shape))


@given(MASKS, st.floats(0.05, 3))
@settings(max_examples=150, deadline=None)
def test_with_any_tolerance_every_part_keeps_95_percent(mask, tolerance_px):
    exact = mask_to_polygons(mask, 0)
    for part, original in zip(mask_to_polygons(mask, tolerance_px), exact, strict=True):
        assert iou(polygons_to_mask([part], mask.shape), polygons_to_mask([original], mask.shape)) >= 0.95


@pytest.mark.parametrize(
    ("mask", "parts", "holes"),
    [
        (mask_of("...", "..."), 0, 0),
        (mask_of("...", ".#.", "..."), 1, 0),
        (mask_of("#..", ".#.", "..#"), 1, 0),
        (mask_of("#.#", "...", "###"), 3, 0),
        (mask_of("###", "#.#", "###"), 1, 1),
        (mask_of("#####", "#.#.#", "#####"), 1, 2),
        (mask_of("#####", "#...#", "#.#.#", "#...#", "#####"), 2, 1),
        (mask_of("####"), 1, 0),
    ],
)
def test_parts_and_holes_are_told_apart(mask, parts, holes):
    polygons = mask_to_polygons(mask, 0)
    assert len(polygons) == parts
    assert sum(len(polygon.holes) for polygon in polygons) == holes
    assert np.array_equal(polygons_to_mask(polygons, mask.shape), mask)


def test_one_pixel_is_outlined_along_its_edges():
    (part,) = mask_to_polygons(mask_of("...", "..#"), 0)
    assert sorted(map(tuple, part.exterior)) == [(2, 1), (2, 2), (3, 1), (3, 2)]


def test_the_largest_part_comes_first():
    mask = np.zeros((40, 40), bool)
    mask[0:3, 0:3] = mask[30:40, 30:40] = mask[10:15, 0:5] = True
    areas = [polygons_to_mask([part], mask.shape).sum() for part in mask_to_polygons(mask)]
    assert areas == sorted(areas, reverse=True) and len(areas) == 3


@pytest.mark.parametrize("radius", [3, 6, 10, 12, 15, 23, 40, 100])
def test_a_disc_keeps_its_shape_and_gets_a_light_outline(radius):
    mask = disc(220, radius, (105, 107))
    (part,) = mask_to_polygons(mask)
    assert iou(polygons_to_mask([part], mask.shape), mask) >= 0.95
    assert len(part.exterior) <= (60 if radius == 100 else 24)


def test_random_blobs_keep_95_percent_with_one_pixel_of_tolerance():
    random = np.random.default_rng(0)
    for _ in range(30):
        noise = cv2.GaussianBlur(random.random((60, 80)), (0, 0), random.uniform(1.0, 6.0))
        mask = noise > np.quantile(noise, 0.6)
        assert iou(polygons_to_mask(mask_to_polygons(mask), mask.shape), mask) >= 0.95


def test_a_thin_diagonal_line_is_not_made_a_box():
    mask = np.eye(30, dtype=bool)
    assert iou(polygons_to_mask(mask_to_polygons(mask), mask.shape), mask) >= 0.95


def test_a_negative_tolerance_is_refused():
    with pytest.raises(ValueError, match="a tolerance >= 0, got shape"):
        mask_to_polygons(np.ones((3, 3), bool), -1)


def test_a_pixel_counts_from_half_of_its_area_on():
    assert polygons_to_mask([Polygon(box(0.5, 0, 2.4, 1))], (1, 3)).tolist() == [[True, True, False]]
    assert polygons_to_mask([Polygon(box(0.6, 0, 2.6, 1))], (1, 3)).tolist() == [[False, True, True]]
    assert polygons_to_mask([Polygon(box(0, 0.5, 1, 2.3))], (3, 1)).ravel().tolist() == [True, True, False]
    triangle = Polygon(np.array([[0, 0], [2, 0], [0, 2]], float))
    assert polygons_to_mask([triangle], (2, 2)).tolist() == [[True, True], [True, False]]


def test_an_outline_is_filled_by_area_like_a_fine_raster_fills_it():
    random = np.random.default_rng(1)
    for _ in range(20):
        angles = np.sort(random.uniform(0, 2 * np.pi, 9))
        ring = 20 + random.uniform(6, 18, (9, 1)) * np.stack([np.cos(angles), np.sin(angles)], 1)
        fine = np.zeros((40 * 16, 40 * 16), np.uint8)
        cv2.fillPoly(fine, [np.round((ring * 16 - 0.5) * 256).astype(np.int32)], 1, shift=8)
        area = fine.reshape(40, 16, 40, 16).mean((1, 3))
        mask = polygons_to_mask([Polygon(ring)], (40, 40))
        clear = np.abs(area - 0.5) > 0.1
        assert np.array_equal(mask[clear], area[clear] > 0.5)


def test_an_outline_partly_outside_is_clipped():
    inside = np.zeros((6, 8), bool)
    inside[:3, 5:] = True
    assert np.array_equal(polygons_to_mask([Polygon(box(5, -100, 90, 3))], (6, 8)), inside)
    assert polygons_to_mask([Polygon(box(-5, -5, 50, 50))], (6, 8)).all()
    for away in (box(20, 1, 30, 3), box(-9, 1, -2, 3), box(1, -9, 3, -1), box(1, 6, 3, 9)):
        assert not polygons_to_mask([Polygon(away)], (6, 8)).any()


def test_a_slanted_outline_outside_does_not_leak_into_the_image():
    ring = np.array([[-10, -10], [20, 5], [-10, 20]], float)
    whole = polygons_to_mask([Polygon(ring + 20)], (40, 40))
    assert np.array_equal(polygons_to_mask([Polygon(ring)], (15, 15)), whole[20:35, 20:35])


def test_overlapping_parts_are_a_union_and_crossing_rings_are_even_odd():
    rings = box(0, 0, 3, 1), box(2, 0, 5, 1)
    assert polygons_to_mask([Polygon(ring) for ring in rings], (1, 5)).all()
    assert rings_to_mask(rings, (1, 5)).tolist() == [[True, True, False, True, True]]


def test_an_outline_without_area_is_empty():
    assert not polygons_to_mask([Polygon(np.array([[0, 0], [5, 5], [0, 0]], float))], (6, 6)).any()
    assert not polygons_to_mask([], (6, 6)).any()


def test_a_keyhole_is_drawn_as_label_studio_draws_it():
    ring = keyhole(Polygon(box(0, 0, 10, 10), (box(7, 7, 9, 9),)))
    assert ring.tolist() == [
        *[[10, 10], [0, 10], [0, 0], [10, 0], [10, 10]],  # outer ring, its first point again
        *[[9, 9], [9, 7], [7, 7], [7, 9], [9, 9]],  # hole against its sense, its first point again
    ]


def test_a_keyhole_with_two_holes_has_no_area_between_its_bridges():
    part = Polygon(box(0, 0, 20, 10), (box(2, 3, 5, 6), box(12, 4, 16, 8)))
    expected = np.zeros((10, 20), bool)
    expected[:] = True
    expected[3:6, 2:5] = expected[4:8, 12:16] = False
    assert np.array_equal(rings_to_mask([keyhole(part)], (10, 20)), expected)


@given(MASKS)
def test_parts_that_were_joined_by_seams_are_cut_apart_again(mask):
    if mask.any():
        ring = seamed(mask_to_polygons(mask, 0))
        assert np.array_equal(rings_to_mask([ring], mask.shape), mask)
        back = unseamed(ring)
        assert np.array_equal(polygons_to_mask(back, mask.shape), mask)
        assert len(back) == len(mask_to_polygons(mask, 0))


@given(MASKS, st.integers(0, 200))
def test_seams_are_found_wherever_the_ring_begins_and_whichever_way_it_runs(mask, start):
    if mask.any():
        ring = np.roll(seamed(mask_to_polygons(mask, 0))[:: -1 if start % 2 else 1], start, axis=0)
        assert len(unseamed(ring)) == len(mask_to_polygons(mask, 0))


def test_holes_that_were_joined_by_a_seam_are_holes_again():
    holed = Polygon(box(0, 0, 20, 20), (box(2, 2, 8, 8), box(12, 12, 18, 18)))
    parts = unseamed(seamed((Polygon(box(30, 0, 40, 9)), holed, Polygon(box(3, 3, 7, 7)))))
    assert sorted((len(part.holes), len(part.exterior)) for part in parts) == [(0, 4), (0, 4), (2, 4)]


@pytest.mark.parametrize(
    "ring",
    [
        [[0, 0], [5, 5], [5, 0], [0, 5]],
        [[0, 0], [5, 0], [5, 5], [9, 5], [9, 9], [5, 9], [5, 5], [0, 5]],
        [[0, 0], [5, 0], [9, 0], [5, 0], [5, 5]],
        [[0, 0], [9, 9], [0, 0]],
    ],
    ids=["crosses itself", "touches itself", "has a spike", "has no area"],
)
def test_a_ring_without_seams_stays_one_part(ring):
    points = np.array(ring, float)
    (part,) = unseamed(points)
    assert np.array_equal(polygons_to_mask([part], (10, 10)), rings_to_mask([points], (10, 10)))


def test_a_part_without_holes_is_its_own_keyhole():
    assert np.array_equal(keyhole(Polygon(box(0, 0, 2, 2))), box(0, 0, 2, 2))


def test_a_large_image_costs_what_its_object_costs():
    mask = np.zeros((3000, 4000), bool)
    mask[100:130, 3900:3960] = True
    (part,) = mask_to_polygons(mask)
    assert part.exterior.min() >= 100 and len(part.exterior) <= 8
    assert len(mask_to_polygons(mask, 0)[0].exterior) == 4, "exact, and no point more than it has corners"
    assert iou(polygons_to_mask([part], mask.shape), mask) > 0.99


def test_what_a_ring_paints_is_found_out_where_it_lies():
    star = np.array([[5, 0], [8, 9], [0, 3], [10, 3], [2, 9]], float) * 4
    near, size_hw = painted_polygons(star, (50, 50)), (4000, 6000)
    tracemalloc.start()
    far = painted_polygons(star + np.array([5970, 3000]), size_hw)  # the right end lies outside
    assert tracemalloc.get_traced_memory()[1] < 1e6, "a mask of the image has 24 MB"
    tracemalloc.stop()
    cut = polygons_to_mask(near, (50, 50))[:, :30]
    assert cut.any() and (polygons_to_mask(far, size_hw)[3000:3050, 5970:] == cut).all()
    assert painted_polygons(box(9, 9, 12, 12), (5, 5))[0].exterior.tolist() == box(9, 9, 12, 12).tolist()


def test_specks_go_and_the_object_stays():
    mask = np.zeros((80, 80), bool)
    mask[20:60, 20:60] = True
    speckled = mask.copy()
    speckled[30:32, 30:50:4] = False
    speckled[5:7, 5:7] = True
    smooth = without_specks(speckled, 5)
    assert smooth[30:32, 30:50].all() and not smooth[:15].any()
    assert (smooth != mask).sum() <= 4 * 6, "only the corners may be rounded"
    assert (without_specks(speckled, 1) == speckled).all()
    tiny = np.zeros((9, 9), bool)
    tiny[4, 4] = True
    assert (without_specks(tiny, 7) == tiny).all(), "an object is never lost"


@given(MASKS, st.randoms(use_true_random=False))
def test_rings_of_any_mask_find_their_parts_again(mask, random):
    parts = mask_to_polygons(mask, 0)
    rings = [ring for part in parts for ring in (part.exterior, *part.holes)]
    random.shuffle(rings)
    back = rings_to_polygons(rings)
    assert np.array_equal(polygons_to_mask(back, mask.shape), mask)
    assert sorted(len(part.holes) for part in back) == sorted(len(part.holes) for part in parts)


def test_an_island_in_a_hole_is_a_part():
    rings = [box(0, 0, 20, 20), box(2, 2, 18, 18), box(4, 4, 16, 16), box(6, 6, 14, 14)]
    parts = rings_to_polygons(rings)
    assert [len(part.holes) for part in parts] == [1, 1]
    assert parts[1].exterior.tolist() == rings[2].tolist() and parts[1].holes[0].tolist() == rings[3].tolist()


def test_rings_side_by_side_or_crossing_are_parts():
    assert [len(part.holes) for part in rings_to_polygons([box(0, 0, 4, 4), box(4, 0, 8, 4)])] == [0, 0]
    assert [len(part.holes) for part in rings_to_polygons([box(0, 0, 9, 9), box(5, 5, 12, 12)])] == [0, 0]
    assert rings_to_polygons([]) == ()


def test_a_ring_in_one_that_only_seems_to_lie_in_another_one_is_not_lost():
    arch = np.array([[0, 0], [10, 0], [10, 30], [20, 30], [20, 0], [30, 0], [30, 40], [0, 40]], float)
    across, between = box(5, 5, 25, 20), box(12, 8, 18, 15)  # all corners of `across` lie in the arch, not its edges
    parts = rings_to_polygons([arch, across, between])
    assert sum(1 + len(part.holes) for part in parts) == 3
