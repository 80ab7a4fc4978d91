from __future__ import annotations

import numpy as np
import pytest
import torch

from model.engines.torchvision.frozen import FrozenBackbone, patches


@pytest.fixture(scope="module")
def backbone() -> FrozenBackbone:
    return FrozenBackbone()


def half_striped(stripes_left: bool) -> np.ndarray:
    """Grey, one half of it with stripes of 16 px."""
    image = np.full((200, 400, 3), 120, np.uint8)
    stripes = np.arange(200) // 16 % 2 == 1
    image[stripes, slice(0, 200) if stripes_left else slice(200, 400)] = 230
    return image


def test_maps_have_strides_of_16_and_32_pixels_of_the_input(backbone: FrozenBackbone) -> None:
    maps = backbone.maps(half_striped(True))
    assert [level.shape for level in maps.levels] == [(112, 16, 32), (320, 8, 16)]
    assert all(level.dtype == np.float16 and np.isfinite(level).all() for level in maps.levels)
    assert maps.of_image().shape == (2 * (112 + 320),)


def test_where_a_gpu_has_no_memory_left_the_cpu_computes(
    backbone: FrozenBackbone, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As while a round trains there, for hours: looks at projects went on ending with an error."""
    usual = torch.nn.Module.to

    def to(module: torch.nn.Module, device: str) -> torch.nn.Module:
        if device != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return usual(module, device)

    monkeypatch.setattr(torch.nn.Module, "to", to)
    crowded = FrozenBackbone("cuda:1")
    for is_left in (True, False):
        found, expected = (b.maps(half_striped(is_left)) for b in (crowded, backbone))
        assert all(np.array_equal(*levels) for levels in zip(found.levels, expected.levels, strict=True))
    assert caplog.text.count("computes features on the CPU from now on: CUDA out of memory") == 1


def test_a_box_is_known_by_what_it_shows_and_not_by_where_it_is(backbone: FrozenBackbone) -> None:
    left, right = backbone.maps(half_striped(True)), backbone.maps(half_striped(False))
    boxes = np.array([[40, 40, 140, 160], [260, 40, 360, 160]], np.float32)
    striped, grey = left.of_boxes(boxes)
    grey_too, striped_too = right.of_boxes(boxes)
    near = np.linalg.norm(striped - striped_too) + np.linalg.norm(grey - grey_too)
    assert 2 * near < np.linalg.norm(striped - grey) + np.linalg.norm(striped_too - grey_too)


@pytest.mark.parametrize("place_xy", [(100, 60), (140, 100), (260, 130)])
def test_a_box_shows_what_lies_in_it_and_not_what_lies_beside(
    backbone: FrozenBackbone, place_xy: tuple[int, int]
) -> None:
    blank = np.full((256, 384, 3), 120, np.uint8)  # as large as the input
    (x, y), spotted = place_xy, blank.copy()
    spotted[y - 12 : y + 12, x - 12 : x + 12] = np.random.default_rng(0).integers(0, 256, (24, 24, 3))
    before, after = backbone.maps(blank), backbone.maps(spotted)
    steps = np.arange(-32, 33, 8)
    boxes = np.array([[x + dx - 12, y + dy - 12, x + dx + 12, y + dy + 12] for dy in steps for dx in steps], np.float32)
    changed = np.linalg.norm(after.of_boxes(boxes) - before.of_boxes(boxes), axis=1).reshape(len(steps), len(steps))
    share = changed**2 / (changed**2).sum()
    offset = [float(share.sum(axis) @ steps) for axis in (0, 1)]
    assert np.abs(offset).max() < 7, "pixels of the input; half a cell of the coarser level is 16"


def test_patches_divide_the_image_row_by_row(backbone: FrozenBackbone) -> None:
    assert patches((20, 40), 2).tolist() == [[0, 0, 20, 10], [20, 0, 40, 10], [0, 10, 20, 20], [20, 10, 40, 20]]
    found = backbone.maps(half_striped(True)).of_patches()
    assert found.shape == (4, 864)
    assert np.linalg.norm(found[0] - found[2]) < np.linalg.norm(found[0] - found[1])


def test_features_do_not_depend_on_the_image_size_alone(backbone: FrozenBackbone) -> None:
    small = half_striped(True)
    large = small.repeat(3, 0).repeat(3, 1)
    first, second = backbone.maps(small).of_image(), backbone.maps(large).of_image()
    assert np.linalg.norm(first - second) < 0.2 * np.linalg.norm(first)


def test_the_same_weights_have_the_same_digest(backbone: FrozenBackbone) -> None:
    assert FrozenBackbone().digest == backbone.digest
