from __future__ import annotations

import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign, roi_align

from model.engines.torchvision.pooling import CELLS_AT_ONCE, FixedStrideRoIAlign, TrainedRoIAlign, pool_boxes

INPUT_HW = (128, 256)


@pytest.fixture
def levels() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = [(INPUT_HW[0] // stride, INPUT_HW[1] // stride) for stride in (4, 8, 16, 32)]
    return {str(i): torch.randn(1, 6, h, w, generator=generator) for i, (h, w) in enumerate(sizes)}


def random_boxes(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(count, 2, 2, generator=generator).sort(1).values * torch.tensor(INPUT_HW[::-1])
    return corners.flatten(1)


def pools_alike(levels: dict[str, torch.Tensor], boxes: torch.Tensor, bins: int) -> bool:
    pooler = MultiScaleRoIAlign(["0", "1", "2", "3"], bins, sampling_ratio=2)
    theirs = pooler(levels, [boxes], [INPUT_HW])
    return torch.allclose(pool_boxes(pooler, levels, boxes), theirs, atol=1e-4)


@pytest.mark.parametrize("bins", [7, 14])
def test_it_is_torchvisions_roi_align(levels: dict[str, torch.Tensor], bins: int) -> None:
    assert pools_alike(levels, random_boxes(200), bins)


def test_boxes_on_the_rim_and_of_no_size_are_read_as_torchvision_does(levels: dict[str, torch.Tensor]) -> None:
    h, w = INPUT_HW
    rim = [[0, 0, w, h], [w - 3, h - 3, w, h], [0, 0, 1, 1], [w, h, w, h], [10, 10, 10, 10], [0, h - 9, w, h]]
    assert pools_alike(levels, torch.tensor(rim, dtype=torch.float32), 7)


def test_of_many_large_boxes_some_are_read_at_once(levels: dict[str, torch.Tensor]) -> None:
    h, w = INPUT_HW
    boxes = torch.tensor([[0.0, 0.0, w / 2, h]]).repeat(CELLS_AT_ONCE // (8 * 8) + 1, 1)
    assert pools_alike(levels, boxes, 7)


def test_no_box_gives_nothing(levels: dict[str, torch.Tensor]) -> None:
    pooler = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, sampling_ratio=2)
    assert pool_boxes(pooler, levels, torch.zeros(0, 4)).shape == (0, 6, 7, 7)


def test_float32_stays_float32_whatever_autocast_would_make_of_it(levels: dict[str, torch.Tensor]) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert pools_alike(levels, random_boxes(20), 7)


def test_channels_last_bfloat16_stays_bfloat16(levels: dict[str, torch.Tensor]) -> None:
    coarse = {name: level.bfloat16().to(memory_format=torch.channels_last) for name, level in levels.items()}
    pooler = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, sampling_ratio=2)
    boxes = random_boxes(50)
    pooled = pool_boxes(pooler, coarse, boxes)
    assert pooled.dtype == torch.bfloat16
    assert torch.allclose(pooled.float(), pooler(levels, [boxes], [INPUT_HW]), atol=0.05)


NAMES = ("0", "1", "2", "3")
RIM = [[0, 0, 256, 128], [253, 125, 256, 128], [0, 0, 1, 1], [256, 128, 256, 128], [10, 10, 10, 10], [0, 119, 256, 128]]


def by_hand(levels: dict[str, torch.Tensor], box: torch.Tensor, level: int, samples: int) -> torch.Tensor:
    rows = torch.cat([torch.zeros(1), box])[None]
    return roi_align(levels[str(level)], rows, (7, 7), 0.5 ** (2 + level), samples, aligned=True)


@pytest.mark.parametrize(("side", "level"), [(20.0, 0), (111.9, 0), (112.1, 1), (225.0, 2)])
def test_strides_are_fixed_and_the_level_follows_the_size(
    levels: dict[str, torch.Tensor], side: float, level: int
) -> None:
    box = torch.tensor([3.3, 1.7, 3.3 + side, 1.7 + side])
    pooler = FixedStrideRoIAlign(NAMES, 7, 0, is_aligned=True).eval()
    assert torch.equal(pooler(levels, [box[None]], None), by_hand(levels, box, level, 0))


def test_boxes_of_several_images_are_read_from_their_own(levels: dict[str, torch.Tensor]) -> None:
    both = {name: torch.cat([level, -level]) for name, level in levels.items()}
    pooler, boxes = FixedStrideRoIAlign(NAMES, 7, 0, is_aligned=True).eval(), random_boxes(9)
    together = pooler(both, [boxes, boxes], None)
    assert torch.equal(together[:9], -together[9:])


@pytest.mark.parametrize("is_aligned", [True, False])
@pytest.mark.parametrize("samples", [0, 1, 3])
@pytest.mark.parametrize("bins", [7, 14])
def test_products_read_as_the_fixed_strides_do(
    levels: dict[str, torch.Tensor], bins: int, samples: int, is_aligned: bool
) -> None:
    pooler = FixedStrideRoIAlign(NAMES, bins, samples, is_aligned=is_aligned).eval()
    boxes = torch.cat([random_boxes(200), torch.tensor(RIM, dtype=torch.float32)])
    wanted = pooler(levels, [boxes], None)
    assert torch.allclose(pool_boxes(pooler, levels, boxes), wanted, atol=1e-4)


def read_and_gradients(
    pooler: MultiScaleRoIAlign, levels: dict[str, torch.Tensor], boxes: list[torch.Tensor]
) -> list[torch.Tensor]:
    """What is read of each box, and the gradients of its square's sum for the levels."""
    leaves = {name: level.clone().requires_grad_() for name, level in levels.items()}
    shapes = [INPUT_HW] * len(boxes)
    pooled = pooler(leaves, boxes, shapes)
    weights = torch.randn(pooled.shape, generator=torch.Generator().manual_seed(3))
    (pooled.float() * weights).sum().backward()
    return [pooled.detach(), *(leaf.grad for leaf in leaves.values())]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (TrainedRoIAlign(NAMES, 7, 2), MultiScaleRoIAlign(NAMES, 7, 2)),
        (TrainedRoIAlign(NAMES, 14, 2), MultiScaleRoIAlign(NAMES, 14, 2)),
        (FixedStrideRoIAlign(NAMES, 7, 0, is_aligned=True), FixedStrideRoIAlign(NAMES, 7, 0, is_aligned=True).eval()),
    ],
)
def test_in_training_outputs_and_gradients_are_those_of_roi_align(
    levels: dict[str, torch.Tensor], ours: MultiScaleRoIAlign, theirs: MultiScaleRoIAlign
) -> None:
    both = {name: torch.cat([level, level.flip(0, 2)]) for name, level in levels.items()}
    boxes = [random_boxes(100), torch.cat([random_boxes(40) / 2, torch.tensor(RIM, dtype=torch.float32)])]
    for wanted, got in zip(*(read_and_gradients(pooler, both, boxes) for pooler in (theirs, ours)), strict=True):
        assert torch.allclose(got, wanted, atol=1e-3)


def test_gradients_of_bfloat16_levels_are_summed_up_in_float32(levels: dict[str, torch.Tensor]) -> None:
    coarse = {name: level.bfloat16() for name, level in levels.items()}
    boxes = [random_boxes(1).repeat(2000, 1)]
    pooled, *gradients = read_and_gradients(TrainedRoIAlign(NAMES, 7, 2), coarse, boxes)
    _, *wanted = read_and_gradients(MultiScaleRoIAlign(NAMES, 7, 2), levels, boxes)
    assert pooled.dtype == torch.bfloat16
    for got, gradient in zip(gradients, wanted, strict=True):
        assert torch.allclose(got.float(), gradient, atol=0.01 * float(gradient.abs().max()) + 1e-6)


def test_images_without_boxes_train_nothing(levels: dict[str, torch.Tensor]) -> None:
    pooled, *gradients = read_and_gradients(TrainedRoIAlign(NAMES, 7, 2), levels, [torch.zeros(0, 4)])
    assert pooled.shape == (0, 6, 7, 7) and not any(gradient.any() for gradient in gradients)


def test_outside_of_training_it_is_torchvisions_own(levels: dict[str, torch.Tensor]) -> None:
    ours, theirs = TrainedRoIAlign(NAMES, 7, 2).eval(), MultiScaleRoIAlign(NAMES, 7, 2)
    boxes = random_boxes(20)
    assert torch.equal(ours(levels, [boxes], [INPUT_HW]), theirs(levels, [boxes], [INPUT_HW]))
