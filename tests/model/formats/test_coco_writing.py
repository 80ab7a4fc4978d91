from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
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


LARGE_HW = (4000, 6000)
RING = np.array([[9, 9], [60, 9], [60, 60], [9, 60]], float)
HOLED = Polygon(RING, (np.array([[20, 20], [40, 20], [40, 40]], float),))


def test_an_object_costs_no_more_in_a_large_image_than_in_a_small_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[int, int]] = []

    def draw(parts: Sequence[Polygon], size_hw: tuple[int, int]) -> np.ndarray:
        drawn.append(size_hw)
        return polygons_to_mask(parts, size_hw)

    monkeypatch.setattr("model.formats.masks.polygons_to_mask", draw)
    outlines = tuple(Outline("leaf", (part,)) for part in (Polygon(RING + 20), HOLED))
    coco.write([Record("a.jpg", LARGE_HW, outlines)], tmp_path / "x.json", ["leaf"])
    assert drawn == [(51, 51), (51, 51)]
    rle = json.loads((tmp_path / "x.json").read_text())["annotations"][-1]["segmentation"]
    assert np.array_equal(pycoco_mask.decode(rle), polygons_to_mask([HOLED], LARGE_HW))


def test_masks_are_looked_through_as_they_lie_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pycocotools decodes them column by column; to turn one of 24 megapixels over takes longer than all else."""
    looked_at: list[bool] = []
    look = cv2.boundingRect
    monkeypatch.setattr(cv2, "boundingRect", lambda mask: looked_at.append(mask.flags.c_contiguous) or look(mask))
    coco.write([Record("a.jpg", LARGE_HW, (Outline("leaf", (HOLED,)),))], tmp_path / "x.json", ["leaf"])
    looked_at.clear()
    (record,) = coco.read(tmp_path / "x.json")
    assert looked_at and all(looked_at)
    masks = [polygons_to_mask(parts, LARGE_HW) for parts in (record.outlines[0].parts, [HOLED])]
    assert np.array_equal(*masks)


def test_the_file_says_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco.write([Record("a.jpg", (4, 5), ())], tmp_path / "x.json", ["leaf"])
    COCO(str(tmp_path / "x.json")).info()
    assert "description: written by maskal-studio" in capsys.readouterr().out
