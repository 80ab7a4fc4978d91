from __future__ import annotations

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from model.engines.torchvision.depthwise import WideDepthwise, with_wide_depthwise
from model.engines.torchvision.timm_networks import LITE, features_of


def layers(kind: type[nn.Conv2d], kernel: int, stride: int) -> tuple[nn.Sequential, nn.Sequential]:
    """The same layer as it is, and replaced."""
    torch.manual_seed(0)
    options = {"padding": kernel // 2} if kind is nn.Conv2d else {}
    plain, other = (nn.Sequential(kind(6, 6, kernel, stride, groups=6, bias=False, **options)) for _ in range(2))
    other.load_state_dict(plain.state_dict())
    return plain, with_wide_depthwise(other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("kind", "kernel", "stride"), [(nn.Conv2d, 5, 1), (nn.Conv2d, 7, 1), (Conv2dSame, 5, 2), (nn.Conv2d, 5, 2)]
)
def test_outputs_and_gradients_are_those_of_the_plain_layer(
    kind: type[nn.Conv2d], kernel: int, stride: int, layout: torch.memory_format, dtype: torch.dtype
) -> None:
    plain, ours = layers(kind, kernel, stride)
    assert isinstance(ours[0], WideDepthwise) and ours.state_dict().keys() == plain.state_dict().keys()
    wanted, got = read_and_gradients(plain, layout, torch.float32), read_and_gradients(ours, layout, dtype)
    for exact, found in zip(wanted, got, strict=True):
        assert torch.allclose(
            found, exact, rtol=1e-4, atol=1e-3 if dtype == torch.float32 else 0.02 * float(exact.abs().max())
        )


def read_and_gradients(layer: nn.Sequential, layout: torch.memory_format, dtype: torch.dtype) -> list[torch.Tensor]:
    """What the layer makes of noise in a precision, and the gradients of its squares' sum for noise and weights."""
    x = torch.randn(3, 6, 12, 18, generator=torch.Generator().manual_seed(1))
    x = x.contiguous(memory_format=layout).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        y = layer(x)
    y.float().square().sum().backward()
    assert y.dtype == dtype and layer[0].weight.grad.dtype == torch.float32
    return [y.detach().float(), x.grad, layer[0].weight.grad]


def test_other_layers_stay_as_they_are() -> None:
    narrow, dense, biased = nn.Conv2d(4, 4, 3, groups=4, bias=False), nn.Conv2d(4, 4, 5), nn.Conv2d(4, 4, 5, groups=4)
    kept = with_wide_depthwise(nn.Sequential(narrow, dense, biased))
    assert list(kept) == [narrow, dense, biased]


def test_without_gradients_it_is_the_plain_convolution() -> None:
    plain, ours = layers(nn.Conv2d, 5, 1)
    x = torch.randn(1, 6, 8, 8)
    ours.requires_grad_(False)
    assert torch.equal(ours(x), plain(x)) and not ours(x).requires_grad


def test_those_of_lite_are_replaced_and_keep_their_names() -> None:
    before = features_of(LITE).state_dict().keys()
    body = with_wide_depthwise(features_of(LITE))
    assert sum(isinstance(layer, WideDepthwise) for layer in body.modules()) == 9
    assert body.state_dict().keys() == before
