"""What Label Studio's own converter writes of tasks whose images it does not fetch, read beside the images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from label_studio_sdk.converter import Converter
from PIL import Image

from model.formats.table import FORMATS
from model.geometry import polygons_to_mask

LABELS = ("leaf", 'Läsion, "x" 😀')
CONFIG = """<View><Image name="image" value="$image"/><PolygonLabels name="label" toName="image">
<Label value="leaf"/><Label value='Läsion, "x" 😀'/></PolygonLabels></View>"""
ADDRESSES = {
    "/data/local-files/?d=photos/my%20photo.jpg": "my photo.jpg",
    "/data/local-files/?d=photos%5Cwindows.jpg": "windows.jpg",
    "/data/local-files/?d=top.jpg": "top.jpg",
    "https://host.example/x/a%20%2Bb.jpg?token=1": "a +b.jpg",
    "s3://bucket/k/key c.jpg": "key c.jpg",
    "/data/upload/3/0a1b2c3d-up_load.jpg": "up load.jpg",
}
SIZE = (40, 60)
CORNERS = [[10, 10], [50, 10], [50, 50], [10, 50]]  # percent


def region(number: int) -> dict[str, object]:
    value = {"points": CORNERS, "polygonlabels": [LABELS[number]], "closed": True}
    size = {"original_width": SIZE[1], "original_height": SIZE[0], "image_rotation": 0}
    return {
        "id": f"r{number}",
        "type": "polygonlabels",
        "from_name": "label",
        "to_name": "image",
        "value": value,
        **size,
    }


@pytest.fixture
def export(tmp_path: Path) -> Path:
    tasks = []
    for number, (address, name) in enumerate(ADDRESSES.items(), start=1):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.new("RGB", SIZE[::-1]).save(tmp_path / "photos" / name)
        annotation = {"id": number, "result": [region(0), region(1)], "was_cancelled": False, "completed_by": 1}
        tasks.append({"id": number, "data": {"image": address}, "annotations": [annotation]})
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    converter = Converter(CONFIG, str(tmp_path), download_resources=False)
    converter.convert_to_coco(str(tmp_path / "tasks.json"), str(tmp_path / "coco"), is_dir=False)
    converter.convert_to_yolo(str(tmp_path / "tasks.json"), str(tmp_path / "yolo"), is_dir=False)
    return tmp_path


@pytest.mark.parametrize("tool", ["coco", "yolo"])
def test_images_and_objects_of_all_addresses_are_found(export: Path, tool: str) -> None:
    problems: list[str] = []
    records = list(FORMATS[tool].read(export / tool, problems.append, export / "photos"))
    assert problems == [] and sorted(record.image for record in records) == sorted(ADDRESSES.values())
    wanted = np.zeros(SIZE, bool)
    wanted[4:20, 6:30] = True
    for record in records:
        assert (record.size_hw, record.unread) == (SIZE, ())
        assert sorted(outline.label for outline in record.outlines) == sorted(LABELS)
        assert all((polygons_to_mask(outline.parts, SIZE) == wanted).all() for outline in record.outlines)
