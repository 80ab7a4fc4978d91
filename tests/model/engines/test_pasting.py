from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import grid_sample

from model.engines.pasting import enlarged, paste_coarse, paste_masks, with_boxes_of_masks
from model.instances import Instances
from sampling.observations import crop, intersection

FULL = torch.ones((28, 28))
SIZE_HW = (20, 30)


def paste(probability: torch.Tensor, box: tuple[float, ...], size_hw: tuple[int, int] = SIZE_HW) -> np.ndarray:
    (mask,) = paste_masks(probability[None], torch.tensor([box]), size_hw)
    return mask


def filled(top: int, bottom: int, left: int, right: int, size_hw: tuple[int, int] = SIZE_HW) -> np.ndarray:
    mask = np.zeros(size_hw, bool)
    mask[top:bottom, left:right] = True
    return mask


def paste_on_the_whole_image(probability: torch.Tensor, box: torch.Tensor, size_hw: tuple[int, int]) -> np.ndarray:
    """Detectron2's pasting on the CPU, without a window."""
    xs = (torch.arange(size_hw[1]) + 0.5 - box[0]) / (box[2] - box[0]) * 2 - 1
    ys = (torch.arange(size_hw[0]) + 0.5 - box[1]) / (box[3] - box[1]) * 2 - 1
    grid = torch.stack([xs[None].expand(size_hw), ys[:, None].expand(size_hw)], -1)
    return (grid_sample(probability[None, None], grid[None], align_corners=False)[0, 0] >= 0.5).numpy()


def test_a_full_mask_fills_exactly_its_box() -> None:
    assert np.array_equal(paste(FULL, (4.0, 2.0, 14.0, 12.0)), filled(2, 12, 4, 14))


def test_a_full_mask_fills_the_whole_image() -> None:
    assert paste(FULL, (0.0, 0.0, 30.0, 20.0)).all()


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((4.4, 2.4, 13.6, 11.6), filled(2, 12, 4, 14)),  # each pixel's centre lies inside
        ((4.6, 2.6, 13.4, 11.4), filled(3, 11, 5, 13)),  # the outer pixels' centres lie outside
        ((4.6, 2.4, 13.6, 11.4), filled(2, 11, 5, 14)),
    ],
)
def test_a_pixel_belongs_to_the_box_that_holds_its_centre(box: tuple[float, ...], expected: np.ndarray) -> None:
    assert np.array_equal(paste(FULL, box), expected)


def test_a_probability_of_a_half_counts_and_a_little_less_does_not() -> None:
    box = (8.0, 2.0, 12.0, 6.0)  # one pixel for each of the mask's
    assert np.array_equal(paste(torch.full((4, 4), 0.5), box), filled(2, 6, 8, 12))
    assert not paste(torch.full((4, 4), 0.499), box).any()


def test_a_mask_keeps_its_form_upright_and_unmirrored() -> None:
    corner = torch.zeros((4, 4))
    corner[0, :3] = 1  # the upper row, but for its right end
    assert np.array_equal(paste(corner, (10.0, 5.0, 14.0, 9.0)), filled(5, 6, 10, 13))


def test_a_mask_is_stretched_to_its_box() -> None:
    left_half = torch.zeros((28, 28))
    left_half[:, :14] = 1
    assert np.array_equal(paste(left_half, (4.0, 2.0, 24.0, 12.0)), filled(2, 12, 4, 14))


def test_a_box_that_reaches_out_of_the_image_is_cut_off() -> None:
    assert np.array_equal(paste(FULL, (-5.0, -4.0, 5.0, 6.0)), filled(0, 6, 0, 5))
    assert np.array_equal(paste(FULL, (25.0, 15.0, 35.0, 25.0)), filled(15, 20, 25, 30))


@pytest.mark.parametrize(
    "box",
    [
        (-20.0, 2.0, -5.0, 12.0),
        (31.0, 2.0, 40.0, 12.0),
        (4.0, 25.0, 14.0, 40.0),
        (4.0, -9.0, 14.0, 0.0),
        (4.0, 2.0, 4.0, 12.0),
        (14.0, 12.0, 4.0, 2.0),
    ],
)
def test_a_box_outside_of_the_image_or_without_area_gives_an_empty_mask(box: tuple[float, ...]) -> None:
    assert not paste(FULL, box).any()


def test_pasting_in_a_window_equals_pasting_on_the_whole_image() -> None:
    generator = torch.Generator().manual_seed(0)
    corner, extent = torch.rand((60, 2), generator=generator) * 35 - 5, torch.rand((60, 2), generator=generator) * 25
    boxes = torch.cat([corner, corner + extent + 0.3], 1)
    probabilities = torch.rand((60, 7, 7), generator=generator)
    masks = paste_masks(probabilities, boxes, SIZE_HW)
    assert masks.any((1, 2)).sum() > 30
    for mask, probability, box in zip(masks, probabilities, boxes, strict=True):
        assert np.array_equal(mask, paste_on_the_whole_image(probability, box, SIZE_HW))


def test_each_mask_goes_into_its_own_box() -> None:
    boxes = torch.tensor([[0.0, 0, 5, 5], [10, 10, 20, 20]])
    masks = paste_masks(FULL.expand(2, 28, 28), boxes, SIZE_HW)
    assert np.array_equal(masks, [filled(0, 5, 0, 5), filled(10, 20, 10, 20)])
    assert masks.dtype == bool


def test_half_precision_is_taken_too() -> None:
    (mask,) = paste_masks(FULL[None].bfloat16(), torch.tensor([[4.0, 2, 14, 12]]).bfloat16(), SIZE_HW)
    assert np.array_equal(mask, filled(2, 12, 4, 14))


def test_no_detection_has_no_mask() -> None:
    assert paste_masks(torch.zeros((0, 28, 28)), torch.zeros((0, 4)), SIZE_HW).shape == (0, *SIZE_HW)


def coarse(
    probabilities: torch.Tensor, boxes: list[tuple[float, ...]], size_hw: tuple[int, int]
) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    return paste_coarse(probabilities, torch.tensor(boxes).reshape(-1, 4), size_hw)


def test_small_objects_are_pasted_as_finely_as_the_image_is() -> None:
    """A grid that is as fine as the pixels gives what `paste_masks` gives."""
    torch.manual_seed(0)
    probabilities = torch.nn.functional.interpolate(torch.rand(3, 1, 5, 5), 28, mode="bilinear")[:, 0]
    boxes = [(4.3, 2.2, 17.8, 15.5), (-3.0, 8.0, 9.0, 25.0), (20.5, 1.0, 33.0, 12.4)]
    whole = paste_masks(probabilities, torch.tensor(boxes), (30, 40))
    for expected, mask, (y, x) in zip(whole, *coarse(probabilities, boxes, (30, 40)), strict=True):
        placed = np.zeros((30, 40), bool)
        placed[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
        assert np.array_equal(placed, expected)


def test_a_large_object_has_no_more_cells_than_the_mask_head_gives_it() -> None:
    [mask], _ = coarse(FULL[None], [(100.0, 100.0, 1940.0, 1940.0)], (2000, 2000))
    assert mask[1:-1, 1:-1].sum() > 0.95 * mask.size and max(mask.shape) <= 192, "the coarsest grid of all"
    [mask], [corner] = coarse(FULL[None], [(1000.0, 500.0, 1100.0, 600.0)], (2000, 2000))
    assert mask.shape == (28, 28) and corner.tolist() == [140, 280]


def test_a_coarse_mask_of_nothing_is_empty() -> None:
    masks, corners = coarse(torch.zeros((0, 28, 28)), [], (50, 50))
    assert masks == () and corners.shape == (0, 2)
    [mask], _ = coarse(FULL[None], [(9.0, 9.0, 9.0, 12.0)], (50, 50))
    assert mask.size == 0


def test_coarse_masks_overlap_as_whole_ones_do() -> None:
    boxes = [(100.0, 100.0, 500.0, 400.0), (200.0, 150.0, 600.0, 450.0)]
    whole = paste_masks(FULL.expand(2, -1, -1), torch.tensor(boxes), (700, 900))
    masks, corners = coarse(FULL.expand(2, -1, -1), boxes, (700, 900))
    a, b = (crop(mask, tuple(corner)) for mask, corner in zip(masks, corners.tolist(), strict=True))
    shared = intersection(a, b)
    true_iou = (whole[0] & whole[1]).sum() / (whole[0] | whole[1]).sum()
    assert shared / (a.area + b.area - shared) == pytest.approx(true_iou, abs=0.02)


def test_a_box_grows_around_its_middle_and_ends_at_the_rim() -> None:
    boxes = torch.tensor([[10.0, 4, 20, 14], [0, 0, 30, 20]])
    assert enlarged(boxes, 1.2, SIZE_HW).tolist() == [[9, 3, 21, 15], [0, 0, 30, 20]]
    assert enlarged(boxes, 1.0, SIZE_HW) is boxes


def test_a_box_is_set_right_by_the_mask_in_it_and_stays_where_that_is_empty() -> None:
    masks = np.stack([filled(5, 9, 7, 16), filled(0, 0, 0, 0)])
    boxes = np.array([[5.5, 3.2, 18.7, 12], [1, 2, 3, 4]], np.float32)
    found = with_boxes_of_masks(Instances(boxes, np.ones(2, np.float32), np.zeros(2, int), np.ones((2, 1)), masks))
    assert found.boxes_xyxy.tolist() == [[7, 5, 16, 9], [1, 2, 3, 4]]
    assert boxes[0, 0] == 5.5, "what came is not changed"
