"""Pictures of discs to simulate on, which `conftest.py` draws, and the same with faults."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from backend.simulation.options import SimulationOptions

COLOURS = {"tomato": (215, 48, 39), "plum": (69, 60, 180)}


def spoilt(options: SimulationOptions, tmp_path: Path, **names: bytes | None) -> SimulationOptions:
    """The same images in a folder of their own, some of them with other content, or gone."""
    folder = shutil.copytree(options.images, tmp_path / "spoilt")
    for name, content in names.items():
        path = folder / f"{name.strip('_')}.png"
        path.unlink() if content is None else path.write_bytes(content)
    return replace(options, images=folder, annotations=folder / "annotations.json")
