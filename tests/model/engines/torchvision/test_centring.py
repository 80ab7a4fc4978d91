from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import nn

from model.engines.torchvision.centring import centred
from model.engines.torchvision.timm_networks import LITE, features_of

MOVED_BY = {4: 3, 8: 7, 16: 15}
"""Pixels by which TensorFlow's padding moves a level's cells, by its stride."""

SIDE = 512


def test_a_cell_lies_where_its_index_says() -> None:
    """Seen by what moves a cell: the gradient of a cell is spread alike around its place."""
    body = features_of(LITE).eval()
    x = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0), requires_grad=True)
    for stride, level in zip((4, 8, 16), body(x), strict=False):
        middle = SIDE // 2 // stride
        (seen,) = torch.autograd.grad(level[0, :, middle, middle].sum(), x, retain_graph=True)
        rows = seen.abs().sum((0, 1, 3)).nonzero().flatten()
        assert (rows[0] + rows[-1]).item() / 2 == middle * stride


def test_the_same_weights_see_the_same_in_an_image_that_is_moved() -> None:
    torch.manual_seed(0)
    ours, timms = features_of(LITE).eval(), features_of(replace(LITE, is_centred=False)).eval()
    timms.load_state_dict(ours.state_dict())
    image, moved = torch.randn(1, 3, SIDE, SIDE), torch.zeros(1, 3, SIDE, SIDE)
    moved[..., :-31, :-31] = image[..., 31:, 31:]
    with torch.no_grad():
        pairs = zip((4, 8, 16), ours(moved), timms(image), strict=False)
        for stride, own, theirs in pairs:
            middle, cells = SIDE // 2 // stride, (31 - MOVED_BY[stride]) // stride
            torch.testing.assert_close(own[..., middle, middle], theirs[..., middle + cells, middle + cells])


@pytest.mark.parametrize("side", [3, 5, 7])
def test_the_output_is_as_large_as_before(side: int) -> None:
    same = nn.Sequential(Conv2dSame(2, 3, side, 2))
    before = same(torch.zeros(1, 2, 16, 31)).shape
    assert centred(same)(torch.zeros(1, 2, 16, 31)).shape == before
