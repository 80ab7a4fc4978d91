from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as pycoco_mask
from pycocotools.coco import COCO

from model.formats import coco
from model.geometry import polygons_to_mask
from model.records import Outline, Polygon, Record


def test_a_hole_in_what_covers_no_pixel_costs_no_object(tmp_path: Path) -> None:
    tiny, hole = (np.array([[a, a], [b, a], [b, b]]) for a, b in ((1.2, 1.6), (1.3, 1.4)))
    coco.write([Record("a.jpg", (4, 5), (Outline("leaf", (Polygon(tiny, (hole,)),)),))], tmp_path / "x.json", ["leaf"])
    (record,) = coco.read(tmp_path / "x.json")
    assert record.outlines[0].parts[0].exterior.tolist() == tiny.tolist() and not record.unread


def test_areas_and_boxes_are_those_of_the_pixels_in_the_image(tmp_path: Path) -> None:
    shapes = (
        [[-3, -2], [3, -2], [3, 2], [-3, 2]],
        [[2, 1], [4.6, 1], [4.6, 9], [2, 9]],
        [[1.1, 1.1], [1.2, 1.1], [1, 1]],
    )
    outlines = tuple(Outline("leaf", (Polygon(np.array(points, float)),)) for points in shapes)
    coco.write([Record("a.jpg", (4, 5), outlines)], tmp_path / "x.json", ["leaf"])
    written = json.loads((tmp_path / "x.json").read_text())["annotations"]
    assert [entry["area"] for entry in written] == [6, 9, 0]
    assert [entry["bbox"] for entry in written] == [[0, 0, 3, 2], [2, 1, 3, 3], [0, 0, 0, 0]]


def test_objects_in_large_images_take_no_longer_than_in_small_ones(tmp_path: Path) -> None:
    ring = (np.array([[9, 9], [60, 9], [60, 60], [9, 60]], float), (np.array([[20, 20], [40, 20], [40, 40]], float),))
    plain = [Outline("leaf", (Polygon(ring[0] + shift),)) for shift in range(100)]
    outlines = (*plain, Outline("leaf", (Polygon(*ring),)))
    start = time.process_time()
    coco.write([Record("a.jpg", (4000, 6000), outlines)], tmp_path / "x.json", ["leaf"])
    assert time.process_time() - start < 3, "24 megapixels a hundred times take four times as long"
    rle = json.loads((tmp_path / "x.json").read_text())["annotations"][-1]["segmentation"]
    assert np.array_equal(pycoco_mask.decode(rle), polygons_to_mask(outlines[-1].parts, (4000, 6000)))


def test_masks_of_large_images_are_read_as_quickly_as_they_are_written(tmp_path: Path) -> None:
    ring = Polygon(np.array([[9, 9], [60, 9], [60, 60], [9, 60]], float), (np.array([[20, 20], [40, 20], [40, 40.0]]),))
    records = [Record("a.jpg", (4000, 6000), tuple(Outline(f"leaf {n}", (ring,)) for n in range(30)))]
    coco.write(records, tmp_path / "x.json", [f"leaf {n}" for n in range(30)])
    start = time.process_time()
    (record,) = coco.read(tmp_path / "x.json")
    assert time.process_time() - start < 2, "each of them turned over takes 0.14 s"
    masks = [
        polygons_to_mask(outline.parts, (4000, 6000)) for outline in (record.outlines[-1], *records[0].outlines[:1])
    ]
    assert np.array_equal(*masks)


def test_the_file_says_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco.write([Record("a.jpg", (4, 5), ())], tmp_path / "x.json", ["leaf"])
    COCO(str(tmp_path / "x.json")).info()
    assert "description: written by maskal-studio" in capsys.readouterr().out
