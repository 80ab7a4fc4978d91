"""What is written in YOLO's format, and comes back."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from model.errors import BadRecord
from model.formats import yolo
from model.formats.yolo_classes import read_yaml
from model.geometry import polygons_to_mask
from model.records import Outline, Polygon, Record
from tests.model.formats.scenes import RECORDS, box, put, two_parts
from tests.model.formats.yolo_folders import flat, mask_of, outlines_of, write


def test_a_set_is_written_as_ultralytics_trains_on_it(tmp_path: Path) -> None:
    square = Outline("stem", (Polygon(box(2, 2, 10, 10)),), 0.9)
    yolo.write([Record("x/a.jpg", (20, 40), (square,)), Record("b.jpg", (20, 20), ())], tmp_path, ("leaf", "stem"))
    assert (tmp_path / "labels/x/a.txt").read_text() == "1 0.05 0.1 0.25 0.1 0.25 0.5 0.05 0.5\n"
    assert (tmp_path / "labels/b.txt").read_text() == ""
    content = yaml.safe_load((tmp_path / "data.yaml").read_text())
    assert content == {"train": "images", "val": "images", "names": {0: "leaf", 1: "stem"}}


def test_numbers_of_classes_stay_and_new_ones_follow(tmp_path: Path) -> None:
    own = "# mine\ntrain: images/train\nval: images/val\nnc: 2\nnames: [no, stem]\n"
    write(tmp_path, {"data.yaml": own})
    record = Record("a.jpg", (20, 20), (Outline("stem", (Polygon(box(2, 2, 10, 10)),)),))
    yolo.write([record], tmp_path, ("stem",))
    assert (tmp_path / "data.yaml").read_text() == own
    yolo.write([record], tmp_path, ("null", "stem", "Läsion: 1"))
    content = yaml.safe_load((tmp_path / "data.yaml").read_text())
    assert content["names"] == {0: "no", 1: "stem", 2: "null", 3: "Läsion: 1"}
    assert (content["nc"], content["train"]) == (4, "images/train")
    assert (tmp_path / "labels/a.txt").read_text().startswith("1 ")
    assert read_yaml(tmp_path / "data.yaml")["names"] == {"0": "no", "1": "stem", "2": "null", "3": "Läsion: 1"}


@pytest.mark.parametrize("outline", [o for o in RECORDS[0].outlines if len(o.parts) > 1 or o.parts[0].holes])
def test_parts_and_holes_are_one_ring_whose_pixels_a_trainer_sees(tmp_path: Path, outline: Outline) -> None:
    """As Ultralytics draws it: one cv2.fillPoly, which also paints the pixels under the ring and its seams."""
    yolo.write([Record("a.jpg", (100, 120), (outline,))], tmp_path, (outline.label,))
    (line,) = (tmp_path / "labels/a.txt").read_text().splitlines()
    points = np.array(line.split()[1:], float).reshape(-1, 2) * (120, 100)
    drawn = cv2.fillPoly(np.zeros((100, 120), np.uint8), [points.astype(np.int32)], 1)
    seamless = cv2.morphologyEx(drawn, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)).astype(bool)
    ours = polygons_to_mask(outline.parts, (100, 120)).astype(np.uint8)
    inner, outer = (draw(ours, np.ones((3, 3), np.uint8)).astype(bool) for draw in (cv2.erode, cv2.dilate))
    assert (inner <= drawn.astype(bool)).all() and (seamless <= outer).all()


def test_what_ultralytics_converter_joined_is_parts_again(tmp_path: Path) -> None:
    """Its merge_multi_segment walks from part to part on one way and back on the other."""
    first = "0.1 0.1 0.3 0.1 0.3 0.3 0.1 0.3 0.1 0.1"
    there, last, back = "0.5 0.1 0.7 0.1", "0.9 0.5 0.95 0.5 0.9 0.6 0.9 0.5", "0.7 0.1 0.7 0.3 0.5 0.3 0.5 0.1"
    (outline,) = outlines_of(flat(tmp_path, f"0 {first} {there} {last} {back}"))
    assert sorted(len(part.exterior) for part in outline.parts) == [3, 4, 4]
    assert mask_of(outline).sum() == pytest.approx(32 + 1, abs=1)


def test_parts_that_touch_become_one(tmp_path: Path) -> None:
    outline = Outline("leaf", (Polygon(box(2, 2, 12, 12)), Polygon(box(12, 2, 20, 12))))
    put("yolo", [Record("a.jpg", (20, 20), (outline,))], tmp_path, ("leaf",))
    (back,) = outlines_of(tmp_path)
    assert len(back.parts) == 1
    assert np.array_equal(mask_of(back), mask_of(outline))


def test_what_reaches_out_of_the_image_is_written_as_its_pixels(tmp_path: Path) -> None:
    outline = Outline("leaf", (Polygon(np.array([[-9.0, -9.0], [30.0, 5.0], [5.0, 30.0]])), *two_parts(14)))
    put("yolo", [Record("a.jpg", (20, 20), (outline,))], tmp_path, ("leaf",))
    shares = [float(text) for text in (tmp_path / "labels/a.txt").read_text().split()[1:]]
    assert min(shares) >= 0 and max(shares) <= 1
    assert np.array_equal(mask_of(outlines_of(tmp_path)[0]), mask_of(outline))


def test_an_object_outside_of_its_image_is_refused(tmp_path: Path) -> None:
    record = Record("a.jpg", (20, 20), (Outline("leaf", (Polygon(box(30, 30, 40, 40)),)),))
    with pytest.raises(BadRecord, match=r"a 'leaf' of a\.jpg lies outside of its image; delete it"):
        yolo.write([record], tmp_path, ("leaf",))


def test_coordinates_of_large_images_come_back_to_a_thousandth_of_a_pixel(tmp_path: Path) -> None:
    points = np.array([[1 / 3, 2 / 3], [19999.123, 7.7], [12345.678, 0.001]])
    put("yolo", [Record("a.png", (8, 20000), (Outline("leaf", (Polygon(points),)),))], tmp_path, ("leaf",))
    assert np.abs(outlines_of(tmp_path)[0].parts[0].exterior - points).max() < 1e-3


@pytest.mark.parametrize("ending", ["jfif", "JPE"])
def test_an_image_that_ultralytics_would_pass_over_in_silence_is_told(tmp_path: Path, ending: str) -> None:
    with pytest.raises(BadRecord, match=rf"a\.{ending}: Ultralytics finds no images with that ending; rename"):
        yolo.write([Record(f"a.{ending}", (10, 10), ())], tmp_path, ["leaf"])
    assert not list(tmp_path.rglob("*.txt"))
