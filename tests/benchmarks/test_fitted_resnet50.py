from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.benchmarks.fields import fields
from tests.benchmarks.fitted_resnet50 import fitted_resnet50, solve

SIZE = 128


def test_a_layer_is_solved_for() -> None:
    seen = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    layer = nn.Linear(3, 2)
    untouched = layer.weight[0].clone()
    solve(layer, seen, (seen @ torch.tensor([[1.0], [-2.0], [0.5]])) + 4, None, [1])
    assert layer.weight[1].tolist() == pytest.approx([1, -2, 0.5], abs=0.02)
    assert float(layer.bias[1].detach()) == pytest.approx(4, abs=0.02)
    assert (layer.weight[0] == untouched).all()


@pytest.mark.slow
def test_most_heads_are_found() -> None:
    engine = fitted_resnet50("cpu", SIZE)
    drawn = list(fields(4, 99, SIZE, 1))
    found = [len(engine.predict(image, confidence_threshold=0.5)) for image, _ in drawn]
    assert sum(found) >= 0.5 * sum(len(outlines) for _, outlines in drawn)
    assert max(found) < 20, "not anything counts as a head"
