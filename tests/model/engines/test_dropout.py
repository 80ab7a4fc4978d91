from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor

from model.engines.dropout import (
    LOWEST,
    Dropout,
    DropoutConvHead,
    DropoutMaskPredictor,
    DropoutPredictor,
    DropoutTwoMLPHead,
    random_integers,
)


def conv_head() -> FastRCNNConvFCHead:
    return FastRCNNConvFCHead((4, 7, 7), [4, 4], [16], norm_layer=nn.BatchNorm2d)


Build = Callable[[float], nn.Module]
PAIRS: list[tuple[Build, Callable[[], nn.Module], tuple[int, ...]]] = [
    (lambda p: DropoutTwoMLPHead(4 * 7 * 7, 16, p), lambda: TwoMLPHead(4 * 7 * 7, 16), (5, 4, 7, 7)),
    (lambda p: DropoutPredictor(16, 3, p), lambda: FastRCNNPredictor(16, 3), (5, 16)),
    (lambda p: DropoutMaskPredictor(8, 6, 3, p), lambda: MaskRCNNPredictor(8, 6, 3), (5, 8, 14, 14)),
    (lambda p: DropoutConvHead(conv_head(), p), lambda: conv_head(), (5, 4, 7, 7)),
]
pairs = pytest.mark.parametrize(
    ("build", "build_stock", "shape"), PAIRS, ids=["box_head", "predictor", "mask", "convolutional_box_head"]
)


class Scale(nn.Module):
    """In place of a dropout layer: what went through it is known by its factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawing(p: float, generator: torch.Generator | None) -> Dropout:
    layer = Dropout(p).train()
    layer.generator = generator
    return layer


def outputs(found: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return found if isinstance(found, tuple) else (found,)


@pytest.mark.parametrize("p", [0.25, 0.5, 0.3125, 3 / 256, 0.3, 0.999])
@pytest.mark.parametrize("generator", [None, seeded(1)], ids=["global", "own"])
def test_elements_are_dropped_or_scaled_so_that_the_mean_stays(generator: torch.Generator | None, p: float) -> None:
    torch.manual_seed(0)
    dropped = drawing(p, generator)(torch.full((1000, 1001), 3.0))
    assert sorted(dropped.unique().tolist()) == pytest.approx([0, 3 / (1 - p)], rel=1e-2)
    assert (dropped == 0).float().mean() == pytest.approx(p, abs=0.003)
    assert dropped.mean() == pytest.approx(3, rel=0.1 if p > 0.9 else 0.005)


def test_it_keeps_the_type_of_its_input() -> None:
    assert drawing(0.25, seeded(1))(torch.ones(9, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_it_keeps_the_layout_of_its_input_and_drops_each_element_alone() -> None:
    x = torch.ones(8, 16, 10, 10).contiguous(memory_format=torch.channels_last)
    dropped = drawing(0.5, seeded(1))(x)
    assert dropped.is_contiguous(memory_format=torch.channels_last)
    for part in (*dropped.unbind(0), *dropped.unbind(1), *dropped.unbind(2)):
        assert (part == 0).float().mean() == pytest.approx(0.5, abs=0.08)


def test_rows_that_share_their_memory_draw_their_own() -> None:
    """As those of several passes do."""
    passes = drawing(0.5, seeded(1))(torch.ones(50, 40).expand(3, -1, -1))
    assert not torch.equal(passes[0], passes[1])
    assert (passes == 0).float().mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("generator", [None, seeded(1)], ids=["global", "own"])
def test_gradients_are_those_of_what_was_kept(generator: torch.Generator | None) -> None:
    x = torch.rand(50, 50, requires_grad=True)
    dropped = drawing(0.25, generator)(x)
    dropped.sum().backward()
    assert torch.equal(x.grad, (dropped != 0) / 0.75)


@pytest.mark.parametrize("bits", LOWEST)
def test_random_integers_are_equally_likely_down_to_the_last_bit(bits: int) -> None:
    drawn = random_integers(1_000_001, bits, torch.device("cpu"), seeded(3)).long() - LOWEST[bits]
    assert len(drawn) == 1_000_001 and drawn.min() == 0 and drawn.max() == 2**bits - 1
    for bit in range(bits):
        assert ((drawn >> bit) & 1).float().mean() == pytest.approx(0.5, abs=0.003)
    for part in drawn[:1_000_000].split(125_000):
        assert (part < 2 ** (bits - 1)).float().mean() == pytest.approx(0.5, abs=0.01), "no place is special"
    shifted = ((drawn[: len(drawn) // 4] ^ drawn[len(drawn) // 4 : len(drawn) // 4 * 2]) & 1).float().mean()
    assert shifted == pytest.approx(0.5, abs=0.01), "parts of a word know nothing of each other"


@pytest.mark.parametrize("generator", [None, seeded(1)], ids=["global", "own"])
def test_probabilities_of_nothing_and_all(generator: torch.Generator | None) -> None:
    x = torch.rand(50) + 1
    assert torch.equal(drawing(0, generator)(x), x)
    assert torch.equal(drawing(1, generator)(x), torch.zeros(50))


def test_every_row_draws_its_own_dropout() -> None:
    first, second = drawing(0.5, seeded(1))(torch.ones((2, 200)))
    assert not torch.equal(first, second)


def test_the_own_generator_decides_and_the_global_one_is_left_alone() -> None:
    x, state = torch.ones(200), torch.random.get_rng_state()
    drawn = [drawing(0.5, seeded(seed))(x) for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_without_an_own_generator_the_global_one_decides() -> None:
    def drawn(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return drawing(0.5, None)(torch.ones(200))

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5])
def test_a_weighted_sum_has_the_mean_and_spread_of_one_over_dropped_elements(p: float) -> None:
    layer = drawing(p, seeded(1))
    x, weights = torch.rand(1, 3, 256), torch.randn(1, 256, 1) / 16
    rows = x.expand(20_000, -1, -1)
    drawn, exact = layer.weighted_sum(rows, weights.expand(20_000, -1, -1)), layer(rows) @ weights
    for sums in (drawn, exact):
        assert torch.allclose(sums.mean(0), (x @ weights)[0], atol=0.02)
    assert torch.allclose(drawn.std(0), exact.std(0), rtol=0.05)
    for quantile in (0.05, 0.25, 0.75, 0.95):
        assert torch.allclose(drawn.quantile(quantile, 0), exact.quantile(quantile, 0), atol=0.03)


def test_a_weighted_sum_without_dropping_is_the_sum() -> None:
    x, weights = torch.rand(2, 3, 8), torch.rand(2, 8, 1)
    assert torch.equal(drawing(0.0, seeded(1)).weighted_sum(x, weights), x @ weights)
    assert torch.equal(drawing(0.5, seeded(1)).eval().weighted_sum(x, weights), x @ weights)
    assert not drawing(1.0, seeded(1)).weighted_sum(x, weights).any()


def test_in_eval_mode_nothing_is_dropped_and_nothing_drawn() -> None:
    generator = seeded(1)
    x, state = torch.rand(200), generator.get_state()
    assert torch.equal(drawing(0.5, generator).eval()(x), x)
    assert torch.equal(generator.get_state(), state)


def test_gradients_pass_where_elements_were_kept() -> None:
    x = torch.ones(200, requires_grad=True)
    dropped = drawing(0.5, seeded(1))(x)
    dropped.sum().backward()
    assert torch.equal(x.grad, dropped.detach())
    assert set(x.grad.tolist()) == {0, 2}


@pairs
def test_parameters_have_the_names_and_shapes_of_torchvision(
    build: Build, build_stock: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    ours, stock = build(0.25).state_dict(), build_stock().state_dict()
    assert {name: t.shape for name, t in ours.items()} == {name: t.shape for name, t in stock.items()}


@pairs
@pytest.mark.parametrize(("p", "training"), [(0.0, True), (0.5, False)])
def test_without_dropping_the_output_is_that_of_torchvision(
    build: Build, build_stock: Callable[[], nn.Module], shape: tuple[int, ...], p: float, training: bool
) -> None:
    torch.manual_seed(0)
    ours, stock = build(p).train(training), build_stock().train(training)
    ours.load_state_dict(stock.state_dict())
    x = torch.randn(shape)
    for got, wanted in zip(outputs(ours(x)), outputs(stock(x)), strict=True):
        assert torch.equal(got, wanted)


@pairs
def test_with_dropping_the_output_changes_from_call_to_call(
    build: Build, build_stock: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    ours, x = build(0.25).train(), torch.randn(shape)
    for first, second in zip(outputs(ours(x)), outputs(ours(x)), strict=True):
        assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("build", "count"), [(build, count) for (build, _, _), count in zip(PAIRS, (2, 2, 2, 1), strict=True)]
)
def test_every_dropout_layer_has_the_one_probability(build: Build, count: int) -> None:
    layers = [module for module in build(0.3).modules() if isinstance(module, nn.Dropout)]
    assert [layer.p for layer in layers] == [0.3] * count
    assert all(isinstance(layer, Dropout) for layer in layers)


def test_the_regression_is_dropped_twice_and_the_scores_once() -> None:
    predictor = DropoutPredictor(16, 3, 0.25)
    predictor.drop_scores, predictor.drop_boxes = Scale(2), Scale(3)
    nn.init.zeros_(predictor.cls_score.bias)
    nn.init.zeros_(predictor.bbox_pred.bias)
    x = torch.randn((5, 16))
    scores, deltas = predictor(x)
    assert torch.allclose(scores, 2 * predictor.cls_score(x), atol=1e-5)
    assert torch.allclose(deltas, 6 * predictor.bbox_pred(x), atol=1e-5)


def test_one_forward_of_the_predictor_in_training_drops_twice() -> None:
    predictor, dropped = DropoutPredictor(16, 3, 0.25).train(), []
    for name in ("drop_scores", "drop_boxes"):
        getattr(predictor, name).register_forward_hook(
            lambda layer, args, output, name=name: dropped.append((name, args[0], output))
        )
    predictor(torch.ones((5, 16)))
    assert [name for name, _, _ in dropped] == ["drop_scores", "drop_boxes"]
    (_, _, after_first), (_, into_second, _) = dropped
    assert after_first is into_second, "the second takes what the first left"


def test_the_box_head_drops_the_input_of_both_layers() -> None:
    head = DropoutTwoMLPHead(4 * 7 * 7, 16, 0.25)
    head.drop6, head.drop7 = Scale(2), Scale(3)
    x = torch.randn((5, 4, 7, 7))
    hidden = torch.relu(head.fc6(2 * x.flatten(1)))
    assert torch.allclose(head(x), torch.relu(head.fc7(3 * hidden)), atol=1e-5)


def test_the_mask_predictor_drops_before_the_deconvolution_and_before_the_logits() -> None:
    names = [name for name, _ in DropoutMaskPredictor(8, 6, 3, 0.25).named_children()]
    assert names == ["drop5", "conv5_mask", "relu", "drop_logits", "mask_fcn_logits"]


def test_the_convolutional_box_head_drops_what_goes_into_the_linear_layer() -> None:
    stock = conv_head().eval()
    head = DropoutConvHead(stock, 0.25).eval()
    head.drop = Scale(2)
    x = torch.randn((5, 4, 7, 7))
    flat = stock[2](stock[1](stock[0](x)))
    assert torch.equal(head(x), stock[4](stock[3](2 * flat)))


@pytest.mark.parametrize(
    "build", [lambda: DropoutTwoMLPHead(4 * 7 * 7, 16, 0.25), lambda: DropoutConvHead(conv_head(), 0.25)]
)
def test_the_stem_of_a_box_head_is_all_that_dropout_does_not_touch(build: Callable[[], nn.Module]) -> None:
    """So it runs once for all passes, which its tail may compute together: (t, n, d)."""
    head, x = build().eval(), torch.randn((5, 4, 7, 7))
    rows = head.stem(x)
    assert torch.allclose(head.tail(rows.expand(3, -1, -1)), head(x).expand(3, -1, -1), atol=1e-5)
    head.train()
    for layer in head.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
    assert torch.equal(head.stem(x), rows), "no dropout in it"
    first, second = head.tail(rows.expand(2, -1, -1))
    assert not torch.equal(first, second), "every pass draws its own"
