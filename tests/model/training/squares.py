"""Pictures of two squares that a fake engine learns to find, and trainings on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from model.engines.base import Engine, EngineConfig
from model.engines.fake import FakeEngine
from model.engines.loader import build_engine
from model.records import Outline, Polygon, Record
from model.training.loop import TrainingConfig, train

CLASSES = ("red", "blue")
COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220)}
CORNERS = {"red": (4, 4), "blue": (30, 34)}  # left, top of a square of 20 px
NAMES = ("0.png", "1.png", "2.png", "3.png")


def picture(name: str) -> np.ndarray:
    """Grey, 64 x 64, with a red and a blue square, each picture's a little lower."""
    image = np.full((64, 64, 3), 128, np.uint8)
    for label, (left, top) in corners(name).items():
        image[top : top + 20, left : left + 20] = COLOURS[label]
    return image


def corners(name: str) -> dict[str, tuple[int, int]]:
    down = 2 * NAMES.index(name)
    return {label: (left, top + down) for label, (left, top) in CORNERS.items()}


def record(name: str) -> Record:
    squares = {
        label: np.array([[x, y], [x + 20, y], [x + 20, y + 20], [x, y + 20]], float)
        for label, (x, y) in corners(name).items()
    }
    return Record(name, (64, 64), tuple(Outline(label, (Polygon(square),)) for label, square in squares.items()))


RECORDS = [record(name) for name in NAMES]


def fake_engine() -> Engine:
    return build_engine("fake", CLASSES, EngineConfig())


def config(**changes: Any) -> TrainingConfig:
    return TrainingConfig(**{"iterations": 30, "learning_rate": 0.05, "warmup_iterations": 5, **changes})


def trained_colours(**changes: Any) -> torch.Tensor:
    engine = fake_engine()
    train(engine, RECORDS, picture, config(**changes))
    return engine.tensors()["colours"]


class Noisy(FakeEngine):
    """Its loss is drawn by torch, as dropout is."""

    def losses(self, images: Any, targets: Any) -> dict[str, torch.Tensor]:
        return {name: 0 * loss + torch.rand(()) for name, loss in super().losses(images, targets).items()}


def measured(values: list[float | None]) -> Callable[[], float | None]:
    return iter(values).__next__
