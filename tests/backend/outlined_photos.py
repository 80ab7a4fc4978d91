"""A folder of photos of coloured squares, and a network that finds them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import torch

from backend.folders.auto_annotate import Annotated, AutoAnnotateOptions, auto_annotate
from backend.settings import Settings
from model import checkpoints
from model.engines.base import EngineConfig
from model.engines.fake import FakeEngine
from model.geometry import polygons_to_mask
from model.records import Outline

COLOURS = {"tomato": (215, 48, 39), "plum": (69, 60, 180)}
CLASSES = tuple(COLOURS)
SQUARES = {
    "a.png": {"tomato": [(8, 16), (80, 72)]},
    "field 1/Rübe.png": {"plum": [(40, 40)], "tomato": [(84, 8)]},
    "field 1/none.png": {},
}
SIDE = 32


def picture(squares: dict[str, list[tuple[int, int]]]) -> np.ndarray:
    """RGB (128, 128, 3): squares of a class's colour at (x, y) on white."""
    image = np.full((128, 128, 3), 250, np.uint8)
    for label, corners in squares.items():
        for x, y in corners:
            image[y : y + SIDE, x : x + SIDE] = COLOURS[label]
    return image


def save(path: Path, squares: dict[str, list[tuple[int, int]]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture(squares)[..., ::-1])


def network() -> FakeEngine:
    engine = FakeEngine(CLASSES, EngineConfig())
    engine.load_tensors({"colours": torch.tensor([COLOURS[c] for c in CLASSES]) / 255}, CLASSES)
    return engine


def run(photos: Path, weights: Path | None, export_format: str, **options: object) -> Annotated:
    settings = Settings(data_dir=photos.parent / "data")
    wanted = AutoAnnotateOptions(photos, export_format, weights=weights, device="cpu", **options)  # type: ignore[arg-type]
    return auto_annotate(settings, wanted)


def assert_squares(outlines: tuple[Outline, ...], squares: dict[str, list[tuple[int, int]]]) -> None:
    """The outlines are those squares, each within a pixel."""
    wanted = {(label, corner) for label, corners in squares.items() for corner in corners}
    assert len(outlines) == len(wanted)
    for label, corner in wanted:
        drawn = (picture({label: [corner]}) == COLOURS[label]).all(2)
        masks = [polygons_to_mask(o.parts, (128, 128)) for o in outlines if o.label == label]
        assert max((mask & drawn).sum() / (mask | drawn).sum() for mask in masks) > 0.85


def save_photos(folder: Path) -> Path:
    """The squares as image files, some in a subfolder."""
    for name, squares in SQUARES.items():
        save(folder / name, squares)
    return folder


def save_weights(path: Path) -> Path:
    """A checkpoint that tells its network and classes."""
    metadata = {"engine": "fake", "classes": json.dumps(CLASSES), "config": json.dumps({"network": "colours"})}
    checkpoints.save(path, network().tensors(), metadata)
    return path
