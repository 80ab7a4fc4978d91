"""What a demo takes of somebody's own images, and how it uploads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from backend.demo import data as demo_data
from backend.demo.data import DemoImage, coco_data, import_images
from backend.label_studio.labels import parse_label_config, polygon_config
from model.errors import BadRecord
from model.records import Outline, Polygon, Record

SQUARE = {"segmentation": [[5, 5, 30, 5, 30, 30, 5, 30]]}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photos, a.png and b.png, each with a leaf."""
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.full((50, 60, 3), 90, np.uint8))
    return tmp_path


def annotated(photos: Path, **second: Any) -> Path:
    images = [{"id": i, "file_name": f"{name}.png", "width": 60, "height": 50} for i, name in enumerate("ab")]
    rows = [{"id": i, "image_id": i, "category_id": 1, **SQUARE} for i in range(2)]
    rows[1] |= second
    path = photos / "annotations.json"
    path.write_text(json.dumps({"images": images, "annotations": rows, "categories": [{"id": 1, "name": "leaf "}]}))
    return path


def test_images_come_as_they_are_with_their_truth(photos: Path) -> None:
    data = coco_data(photos, annotated(photos), None)
    assert [image.name for image in data.images] == ["a.png", "b.png"] and data.labels == ("leaf",)
    assert data.images[0].content == (photos / "a.png").read_bytes()
    assert [len(image.truth.outlines) for image in coco_data(photos, annotated(photos), 1).images] == [1]


def test_images_that_cannot_be_used_are_named_with_both_sizes(photos: Path) -> None:
    (photos / "a.png").unlink()
    cv2.imwrite(str(photos / "b.png"), np.zeros((60, 50, 3), np.uint8))
    with pytest.raises(BadRecord, match=r"2 of 2 images cannot be used: image a\.png is not in .*b\.png is 50 x 60 px"):
        coco_data(photos, annotated(photos), None)


def test_an_image_that_was_read_in_part_is_left_out(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = coco_data(photos, annotated(photos, iscrowd=1), None)
    assert [image.name for image in data.images] == ["a.png"]
    assert "1 of 2 images are left out, not all of them can be read: b.png" in caplog.text


def test_too_large_images_name_the_setting(photos: Path) -> None:
    with pytest.raises(BadRecord, match=r"over the limit of 0\.001 megapixels; .*MAX_IMAGE_MEGAPIXELS"):
        coco_data(photos, annotated(photos), None, 0.001)


def test_two_images_of_one_name_are_left_out(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = annotated(photos)
    content = json.loads(path.read_text())
    content["images"].append({**content["images"][1], "id": 2})
    path.write_text(json.dumps(content))
    data = coco_data(photos, path, None)
    assert [image.name for image in data.images] == ["a.png"]
    assert "2 of 3 images are left out" in caplog.text and "2 annotations are of an image with that name" in caplog.text


class FakeLabelStudio:
    """Keeps what is uploaded call by call, and the tasks."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.tasks: list[dict[str, Any]] = []

    def upload_images(self, project_id: int, images: list[tuple[str, bytes]]) -> list[str]:
        self.calls.append([name for name, _ in images])
        return [f"/data/{name}" for name, _ in images]

    def import_tasks(self, project_id: int, tasks: list[dict[str, Any]]) -> list[int]:
        self.tasks += tasks
        return [100 + len(self.tasks) - len(tasks) + place for place in range(len(tasks))]


def test_images_are_uploaded_many_a_call_and_the_first_are_annotated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_data, "UPLOADED_AT_ONCE", 3)
    monkeypatch.setattr(demo_data, "UPLOAD_BYTES", 20)
    corners = Polygon(np.array([[5, 5], [30, 5], [30, 30]], float))
    sizes = (4, 4, 4, 4, 12, 12, 50)
    images = [
        DemoImage(f"{place}.jpg", b"x" * size, Record(f"{place}.jpg", (50, 60), (Outline("leaf", (corners,)),)))
        for place, size in enumerate(sizes)
    ]
    server, labels = FakeLabelStudio(), parse_label_config(polygon_config(("leaf",)))
    made = list(import_images(server, 1, images, labels, annotated=4))
    assert server.calls == [["0.jpg", "1.jpg", "2.jpg"], ["3.jpg", "4.jpg"], ["5.jpg"], ["6.jpg"]]
    assert made == [(100 + place, image) for place, image in enumerate(images)]
    assert ["annotations" in task for task in server.tasks] == [True] * 4 + [False] * 3
