"""What has to hold wherever an engine computes; `--device cuda` asks for it on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest
import torch

from backend.generated.broccoli import LABELS, generate
from model.engines.base import EngineConfig
from model.engines.dropout import Dropout
from model.engines.torchvision.engine import TorchvisionEngine
from sampling.mc_dropout import ScoringConfig, score

FLOAT32 = 5e-5
"""Relative error up to which a sum counts as computed in float32; TF32 has ten times as much in one layer."""


@pytest.fixture
def engine(device: str) -> TorchvisionEngine:
    torch.manual_seed(0)
    return TorchvisionEngine(LABELS, EngineConfig(network="nano", confidence_threshold=0.1)).to(device)


@pytest.fixture
def image() -> np.ndarray:
    [field] = generate(1, 5)
    return field.image


def relative_error(values: torch.Tensor, exact: torch.Tensor) -> float:
    return float((values.double() - exact).norm() / exact.norm())


def test_full_precision_is_float32_in_convolutions(
    engine: TorchvisionEngine, image: np.ndarray, record_property: Callable[[str, object], None]
) -> None:
    finer = deepcopy(engine)
    finer.network.double()
    [found], [exact] = (e.encode([image], exact=True) for e in (engine, finer))
    error = max(relative_error(found.features[name], level) for name, level in exact.features.items())
    record_property("relative error", f"{error:.1e}")
    assert error < FLOAT32


def test_full_precision_is_float32_in_products(
    engine: TorchvisionEngine, image: np.ndarray, record_property: Callable[[str, object], None]
) -> None:
    [encoded] = engine.encode([image], exact=True)
    head = engine.network.roi_heads.box_head
    with torch.no_grad():
        error = relative_error(head.tail(encoded.rows), deepcopy(head).double().tail(encoded.rows.double()))
    record_property("relative error", f"{error:.1e}")
    assert error < FLOAT32


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "fast"])
def test_an_image_has_the_same_score_again(engine: TorchvisionEngine, image: np.ndarray, exact: bool) -> None:
    scores = []
    for _ in range(2):
        [encoded] = engine.encode([image], exact=exact)
        generator = torch.Generator(engine.device).manual_seed(3)
        scores.append(score(engine, encoded, ScoringConfig(passes=8, exact=exact), generator))
    assert scores[0].class_counts.any(), "something is found"
    assert np.array_equal(scores[0].class_counts, scores[1].class_counts)
    assert scores[0].certainty == scores[1].certainty or all(np.isnan(s.certainty) for s in scores)


@pytest.mark.parametrize("p", [0.25, 0.1])
def test_dropout_draws_on_its_device(device: str, p: float) -> None:
    layer = Dropout(p).train()
    drawn = []
    for seed in (1, 1, 2):
        layer.generator = torch.Generator(device).manual_seed(seed)
        drawn.append(layer(torch.ones(400, 500, device=device)))
    first, again, other = drawn
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert float((first == 0).float().mean()) == pytest.approx(p, abs=0.01)
    assert float(first.mean()) == pytest.approx(1, abs=0.01)
