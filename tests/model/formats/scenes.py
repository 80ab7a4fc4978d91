"""Hand-made records that hold all that a format may lose, and how two readings are compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from model.formats.shapes import ellipse
from model.formats.table import FORMATS
from model.geometry import polygons_to_mask
from model.records import Outline, Polygon, Record

WITHOUT_SIZES = ("yolo",)
CLASSES = ("Blatt, krank", "Läsion", "<stem> & 'root'", "never seen")


def box(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], float)


def disc(x: float, y: float, radius: float) -> Polygon:
    return ellipse(x, y, radius, radius)


def two_parts(x: float) -> tuple[Polygon, ...]:
    return (Polygon(box(x, 4, x + 12, 20)), Polygon(box(x + 2, 30, x + 10, 40)))


RING = Polygon(disc(60.5, 70.25, 18).exterior, (disc(60.5, 70.25, 7).exterior,))
TWO_HOLES = Polygon(box(2, 60, 34, 76), (box(6, 64, 12, 70), box(20, 64, 30, 72)))
RECORDS = (
    Record(
        "field 1/Rübe ä.jpg",
        (100, 120),
        (
            Outline(CLASSES[0], two_parts(2)),
            Outline(CLASSES[0], two_parts(20)),
            Outline(CLASSES[1], (RING, disc(100.3, 12.6, 9.4))),
            Outline(CLASSES[2], (TWO_HOLES,)),
            Outline(CLASSES[0], (disc(64.125, 20.875, 13.3),)),
        ),
    ),
    Record("empty.png", (100, 120), ()),
    Record("b.jpg", (90, 121), (Outline(CLASSES[2], (Polygon(box(0, 0, 121, 90)),)),)),
)


def put(name: str, records: Sequence[Record], folder: Path, classes: Sequence[str] = CLASSES) -> None:
    """Write records, and the images that tell the reader their sizes where the format does not."""
    form = FORMATS[name]
    form.write(records, folder, classes)
    for record in records if name in WITHOUT_SIZES else ():
        path = folder / form.image_path(record.image)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("1", record.size_hw[::-1]).save(path)


def read(name: str, source: Path) -> list[Record]:
    """All records of a source that must be without problems."""
    problems: list[str] = []
    records = list(FORMATS[name].read(source, problems.append))
    assert problems == []
    return records


def iou(one: Outline, other: Outline, size_hw: tuple[int, int]) -> float:
    first, second = (polygons_to_mask(outline.parts, size_hw) for outline in (one, other))
    return float((first & second).sum() / (first | second).sum())


def assert_same(got: Sequence[Record], wanted: Sequence[Record]) -> None:
    """Same images, sizes, objects in order, labels and numbers of parts; masks of IoU 0.98 or more."""
    assert sorted(record.image for record in got) == sorted(record.image for record in wanted)
    by_image = {record.image: record for record in got}
    for record in wanted:
        back = by_image[record.image]
        assert back.size_hw == record.size_hw
        assert [outline.label for outline in back.outlines] == [outline.label for outline in record.outlines]
        assert [len(outline.parts) for outline in back.outlines] == [len(o.parts) for o in record.outlines]
        assert all(iou(*pair, record.size_hw) >= 0.98 for pair in zip(back.outlines, record.outlines, strict=True))
