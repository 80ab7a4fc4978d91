"""What a demo takes of somebody's own images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from backend.demo.data import coco_data
from model.errors import BadRecord

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
