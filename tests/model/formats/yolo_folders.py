"""Small folders in YOLO's format for the tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from model.formats import yolo
from model.geometry import polygons_to_mask
from model.records import Outline
from tests.model.formats.scenes import read

SQUARE = "0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5"  # 8 x 8 px of 20 x 20
NAMES = "names: [leaf, stem]\n"


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    """Text files, and an image of 20 x 20 px for each name of one."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".jpg", ".png", ".PNG"):
            Image.new("RGB", (20, 20)).save(path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def told(source: Path, images: Path | None = None) -> tuple[dict[str, list[str]], list[str]]:
    """The labels of each image, and the problems without the folder's name."""
    problems: list[str] = []
    records = list(yolo.read(source, problems.append, images))
    return {r.image: [o.label for o in r.outlines] for r in records}, [p.replace(f"{source}/", "") for p in problems]


def flat(folder: Path, lines: str | bytes, names: str = NAMES) -> Path:
    """A folder of one image `a.jpg` with these lines, and the names of the classes."""
    return write(folder, {"a.jpg": "", "a.txt": lines, "data.yaml": names})


def outlines_of(folder: Path) -> tuple[Outline, ...]:
    """The objects of the only image of a folder."""
    (record,) = read("yolo", folder)
    return record.outlines


def mask_of(outline: Outline) -> np.ndarray:
    """The pixels of an object in an image of 20 x 20 px."""
    return polygons_to_mask(outline.parts, (20, 20))
