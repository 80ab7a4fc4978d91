from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from backend.simulation.options import SimulationOptions
from model.formats import coco
from model.geometry import mask_to_polygons
from model.records import Outline, Record
from tests.backend.simulation.discs import COLOURS


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen pictures of one or two discs, every fourth with the rare plum."""
    folder = tmp_path_factory.mktemp("discs")
    records = []
    for index in range(16):
        rng = np.random.default_rng(index)
        picture, outlines = np.full((60, 80, 3), 250, np.uint8), []
        labels = ["plum" if index % 4 == 0 else "tomato"] + ["tomato"] * (index % 2)
        for place, label in enumerate(labels):
            mask = np.zeros((60, 80), np.uint8)
            cv2.circle(mask, (20 + 40 * place, 30), int(rng.integers(8, 15)), 1, -1)
            picture[mask > 0] = np.clip(np.array(COLOURS[label]) + rng.integers(-30, 30, 3), 0, 255)
            outlines.append(Outline(label, mask_to_polygons(mask > 0)))
        cv2.imwrite(str(folder / f"{index}.png"), picture[..., ::-1])
        records.append(Record(f"{index}.png", (60, 80), tuple(outlines)))
    coco.write(records, folder / "annotations.json", tuple(COLOURS))
    config = "engine: fake\nlearning_rate: 0.05\ntrain_iterations_base: 30\nmcd_iterations: 3\n"
    (folder / "config.yaml").write_text(config)
    return folder


@pytest.fixture
def options(data: Path, tmp_path: Path) -> SimulationOptions:
    return SimulationOptions(
        images=data,
        annotations=data / "annotations.json",
        out=tmp_path / "out",
        strategies=("random", "uncertainty", "diverse"),
        seeds=2,
        initial=3,
        pool_size=2,
        loops=2,
        test_share=0.25,
        config=data / "config.yaml",
    )
