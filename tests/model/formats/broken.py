"""A folder with two images of two objects each, one of which the tests break."""

from __future__ import annotations

from pathlib import Path

from model.formats.table import FORMATS
from model.records import Outline, Polygon, Record
from tests.model.formats.scenes import box, put

LEAVES = tuple(Outline("leaf", (Polygon(box(x, 2, x + 6, 12)),)) for x in (2, 10))
HOLED = Outline("leaf", (Polygon(box(2, 2, 16, 12), (box(5, 5, 9, 9),)),))
JSON_FILES = {"darwin": "a.json", "labelme": "a.json", "supervisely": "ds0/ann/a.jpg.json", "coco": "annotations.json"}
XML_FILES = {"cvat": "annotations.xml", "labelme_xml": "a.xml"}
FILES = JSON_FILES | XML_FILES | {"yolo": "labels/a.txt"}


def read(name: str, folder: Path) -> tuple[dict[str, int], list[str]]:
    """How many objects each image has, and the problems."""
    problems: list[str] = []
    records = list(FORMATS[name].read(folder, problems.append))
    return {record.image.rpartition("/")[2]: len(record.outlines) for record in records}, problems


def written(name: str, folder: Path, *outlines: Outline) -> Path:
    """Write a.jpg with the outlines and b.jpg with two leaves; the file of a.jpg."""
    records = [Record("a.jpg", (20, 24), outlines or LEAVES), Record("b.jpg", (20, 24), LEAVES)]
    put(name, records, folder, ("leaf",))
    return folder / FILES[name]
