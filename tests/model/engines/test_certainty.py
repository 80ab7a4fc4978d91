"""Certainty means something: it falls when an image becomes harder. On a small network, trained for about a minute."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch

from model.engines.base import Engine, EngineConfig
from model.engines.loader import build_engine
from model.geometry import mask_to_polygons
from model.records import Outline, Record
from model.training.loop import TrainingConfig, train
from sampling.mc_dropout import ScoringConfig, score

SIDE = 128
COLOURS = {"disc": (205, 60, 50), "plate": (60, 90, 200), "rare disc": (205, 120, 50)}
STEPS = 240


def scene(seed: int, labels: tuple[str, ...]) -> tuple[np.ndarray, tuple[Outline, ...]]:
    """Up to four shapes in the quarters of a noisy picture."""
    rng = np.random.default_rng(seed)
    picture, outlines = np.full((SIDE, SIDE, 3), 190.0), []
    for quarter, label in zip(rng.permutation(4), labels, strict=False):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        x, y = (np.array([quarter % 2, quarter // 2]) * 64 + 32 + rng.integers(-8, 9, 2)).tolist()
        radius = int(rng.integers(14, 22))
        if "disc" in label:
            cv2.circle(mask, (x, y), radius, 1, -1)
        else:
            cv2.rectangle(mask, (x - radius, y - radius), (x + radius, y + radius), 1, -1)
        picture[mask > 0] = np.array(COLOURS[label]) + rng.integers(-15, 16, 3)
        outlines.append(Outline(label, mask_to_polygons(mask > 0)))
    noisy = picture + rng.normal(0, 12, picture.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8), tuple(outlines)


@pytest.fixture(scope="module")
def engine() -> Engine:
    torch.manual_seed(0)
    made = build_engine("torchvision", tuple(COLOURS), EngineConfig(network="nano"))
    made.network.transform.min_size, made.network.transform.max_size = (SIDE,), SIDE
    images, records = {}, []
    for index in range(60):
        labels = ("disc", "plate", "disc")[: 1 + index % 3] if index % 20 else ("rare disc",)
        images[str(index)], outlines = scene(index, labels)
        records.append(Record(str(index), (SIDE, SIDE), outlines))
    config = TrainingConfig(iterations=STEPS, learning_rate=1e-3, batch_size=4, warmup_iterations=20)
    train(made, records, images.__getitem__, config)
    return made


def certainties(engine: Engine, images: list[np.ndarray], *, exact: bool) -> np.ndarray:
    values = []
    for seed, encoded in enumerate(engine.encode(images, exact=exact)):
        values.append(score(engine, encoded, ScoringConfig(20, exact=exact), torch.Generator().manual_seed(seed)))
    return np.nan_to_num([value.certainty for value in values])


def blurred(image: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), 9)


def occluded(image: np.ndarray) -> np.ndarray:
    """Bars of the ground's colour over half of everything."""
    covered = image.copy()
    for start in range(4, SIDE, 16):
        covered[:, start : start + 8] = 190
    return covered


CLEAR = [scene(1000 + index, ("disc", "plate")[: 1 + index % 2])[0] for index in range(16)]


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "fast"])
@pytest.mark.parametrize("spoil", [blurred, occluded])
def test_an_image_that_is_harder_to_see_is_less_certain(
    engine: Engine, spoil: Callable[[np.ndarray], np.ndarray], exact: bool
) -> None:
    clear = certainties(engine, CLEAR, exact=exact)
    spoiled = certainties(engine, [spoil(image) for image in CLEAR], exact=exact)
    assert clear.mean() > 0.5, "the network has learned something"
    assert clear.mean() - spoiled.mean() > 0.05
    assert (clear > spoiled).mean() >= 0.75


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "fast"])
def test_an_image_of_a_rare_class_is_less_certain(engine: Engine, exact: bool) -> None:
    common = certainties(engine, [scene(2000 + i, ("disc",))[0] for i in range(16)], exact=exact)
    rare = certainties(engine, [scene(2000 + i, ("rare disc",))[0] for i in range(16)], exact=exact)
    assert common.mean() - rare.mean() > 0.1


def test_more_passes_spread_less(engine: Engine) -> None:
    """The standard deviation of an image's score over repeats, from 5 passes to 45.

    It would fall to a third were it not for rare finds: an object that one pass of 45 sees lowers the score too.
    """
    spread = {}
    for passes in (5, 45):
        deviations = []
        for encoded in engine.encode(CLEAR):
            config = ScoringConfig(passes)
            seeds = [torch.Generator().manual_seed(seed) for seed in range(12)]
            deviations.append(np.nanstd([score(engine, encoded, config, g).certainty for g in seeds]))
        spread[passes] = float(np.median(deviations))
    assert spread[45] < 0.8 * spread[5]
