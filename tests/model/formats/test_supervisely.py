from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.errors import BadRecord
from model.formats import supervisely
from model.formats.masks import encode_png
from model.formats.table import FORMATS
from model.geometry import polygons_to_mask
from model.records import Outline, Polygon, Record
from tests.model.formats.scenes import box, read, two_parts

SQUARE = {"exterior": [[1, 1], [9, 1], [9, 9], [1, 9]], "interior": []}
HOLED = Polygon(box(2, 2, 12, 12), (box(4, 4, 8, 8),))
OUTLINES = (Outline("leaf", two_parts(20)), Outline("stem", (HOLED,)))


def write_ann(folder: Path, *objects: dict[str, Any], name: str = "a.jpg") -> None:
    path = folder / "ds0" / "ann" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"size": {"height": 20, "width": 24}, "objects": list(objects), "tags": []}))


def objects_of(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "ds0" / "ann" / "a.jpg.json").read_text())["objects"]


@pytest.mark.parametrize(
    ("image", "place"),
    [
        ("a.jpg", "ds0/img/a.jpg"),
        ("field/a.jpg", "field/img/a.jpg"),
        ("x/y/a.jpg", "x/datasets/y/img/a.jpg"),
        ("ds0/img/a.jpg", "ds0/img/a.jpg"),
        ("img/a.jpg", "img/img/a.jpg"),
    ],
)
def test_an_image_has_its_place_in_a_dataset(image: str, place: str) -> None:
    assert supervisely.image_path(image) == place
    assert supervisely.image_path(place) == place


@pytest.mark.parametrize("pack", [zlib.compress, bytes], ids=["zlib", "png"])
@pytest.mark.parametrize("mode", ["1", "P", "RGBA"])
def test_a_bitmap_lies_at_its_origin(tmp_path: Path, mode: str, pack: Any) -> None:
    mask = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool)
    data = base64.b64encode(pack(encode_png(mask, mode))).decode()
    write_ann(tmp_path, {"classTitle": "leaf", "bitmap": {"data": data, "origin": [4, 2]}})
    (record,) = read("supervisely", tmp_path)
    wanted = np.zeros((20, 24), bool)
    wanted[2:5, 4:7] = mask
    assert np.array_equal(polygons_to_mask(record.outlines[0].parts, (20, 24)), wanted)


def test_shapes_with_one_instance_key_and_class_are_one_object(tmp_path: Path) -> None:
    keys = [("leaf", "k"), ("leaf", None), ("leaf", "k"), ("stem", "k")]
    shapes = [{"classTitle": name, "geometryType": "polygon", "points": SQUARE, "instance": key} for name, key in keys]
    write_ann(tmp_path, *shapes)
    (record,) = read("supervisely", tmp_path)
    assert [(o.label, len(o.parts)) for o in record.outlines] == [("leaf", 2), ("leaf", 1), ("stem", 1)]


def test_rectangles_and_multipolygons_are_read(tmp_path: Path) -> None:
    rectangle = {"classTitle": "a", "shape": "rectangle", "points": {"exterior": [[2, 3], [9, 8]], "interior": []}}
    multi = {
        "classTitle": "b",
        "geometryType": "multipolygon",
        "parts": [SQUARE, {"exterior": [[1, 1], [2, 1], [2, 2]]}],
    }
    write_ann(tmp_path, rectangle, multi)
    (record,) = read("supervisely", tmp_path)
    assert [len(outline.parts) for outline in record.outlines] == [1, 2]
    assert polygons_to_mask(record.outlines[0].parts, (20, 24)).sum() == 35


@pytest.mark.parametrize("few", [[], [[4, 4]], [[4, 4], [5, 5]], [[4, 4], [5, 5], [4, 4]]])
def test_a_hole_or_part_without_area_costs_only_itself(tmp_path: Path, few: list[list[int]]) -> None:
    holed = {**SQUARE, "interior": [box(2, 2, 4, 4).tolist(), few]}
    write_ann(
        tmp_path,
        {"classTitle": "leaf", "geometryType": "polygon", "points": holed},
        {"classTitle": "leaf", "geometryType": "multipolygon", "parts": [SQUARE, {"exterior": few or [[1, 1]]}]},
    )
    problems: list[str] = []
    (record,) = FORMATS["supervisely"].read(tmp_path, problems.append)
    areas = [polygons_to_mask(outline.parts, (20, 24)).sum() for outline in record.outlines]
    assert areas == [60, 64]
    path = tmp_path / "ds0" / "ann" / "a.jpg.json"
    lost = "left out: fewer than 3 points cover nothing; complete or delete them"
    told = [f"{path}: object 1 (leaf): 1 of its 2 holes {lost}"] if few else []
    assert problems == [*told, f"{path}: object 2 (leaf): 1 of its 2 parts {lost}"]


def test_windows_may_write_endings_in_capitals(tmp_path: Path) -> None:
    write_ann(tmp_path)
    (tmp_path / "ds0" / "ann" / "a.jpg.json").rename(tmp_path / "ds0" / "ann" / "a.jpg.JSON")
    assert [record.image for record in read("supervisely", tmp_path)] == ["ds0/img/a.jpg"]


def test_meta_json_is_no_annotation(tmp_path: Path) -> None:
    write_ann(tmp_path)
    (tmp_path / "meta.json").write_text("{}")
    assert [record.image for record in read("supervisely", tmp_path)] == ["ds0/img/a.jpg"]


def test_a_given_meta_json_gives_classes_colours_ids_and_shapes(tmp_path: Path) -> None:
    classes = [
        {"title": "other", "shape": "rectangle", "color": "#000001", "id": 3},
        {"title": "stem", "shape": "bitmap", "color": "#000002", "id": 7},
        {"title": "leaf", "shape": "polygon", "color": "#000003", "id": 8, "hotkey": "l"},
    ]
    meta = tmp_path / "given.json"
    meta.write_text(json.dumps({"classes": classes, "tags": [{"name": "t"}]}))
    out = tmp_path / "out"
    supervisely.write([Record("a.jpg", (50, 50), OUTLINES)], out, ("leaf", "stem"), meta_json=meta)
    assert json.loads((out / "meta.json").read_text()) == json.loads(meta.read_text())
    objects = objects_of(out)
    assert [(entry["geometryType"], entry["classId"]) for entry in objects] == [
        ("polygon", 8),
        ("polygon", 8),
        ("bitmap", 7),
    ]
    assert objects[0]["instance"] == objects[1]["instance"]
    (record,) = read("supervisely", out)
    assert [len(outline.parts) for outline in record.outlines] == [2, 1]


def test_a_class_that_the_given_meta_json_lacks_is_named(tmp_path: Path) -> None:
    meta = tmp_path / "given.json"
    meta.write_text(json.dumps({"classes": [{"title": "leaf", "shape": "any"}]}))
    with pytest.raises(BadRecord, match=r"given\.json has no class stem, root, only leaf; add it in Supervisely"):
        supervisely.write([], tmp_path / "out", ("leaf", "stem", "root"), meta_json=meta)
    assert not (tmp_path / "out").exists()


def test_a_class_for_boxes_takes_no_outline(tmp_path: Path) -> None:
    meta = tmp_path / "given.json"
    meta.write_text(json.dumps({"classes": [{"title": "leaf", "shape": "rectangle"}]}))
    record = Record("a.jpg", (50, 50), OUTLINES[:1])
    with pytest.raises(BadRecord, match="class 'leaf' takes the shape rectangle, wanted any, polygon or bitmap"):
        supervisely.write([record], tmp_path / "out", ("leaf",), meta_json=meta)


@pytest.mark.parametrize("content", ["{", "[]", '{"classes": [{}]}', '{"classes": [{"title": 3}]}'])
def test_a_broken_meta_json_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "given.json").write_text(content)
    with pytest.raises(BadRecord, match=r"given\.json"):
        supervisely.write([], tmp_path / "out", (), meta_json=tmp_path / "given.json")


def test_a_later_call_adds_its_classes_and_keeps_the_others(tmp_path: Path) -> None:
    supervisely.write([Record("a.jpg", (50, 50), OUTLINES[:1])], tmp_path, ("leaf",))
    supervisely.write([Record("b.jpg", (50, 50), OUTLINES[1:])], tmp_path, ("stem",))
    assert supervisely.class_names(tmp_path / "meta.json") == ("leaf", "stem")
    colours = [entry["color"] for entry in json.loads((tmp_path / "meta.json").read_text())["classes"]]
    assert len(set(colours)) == 2


@pytest.mark.parametrize("image", ["a.tif", "x/b.TIFF"])
def test_tiff_is_refused_with_the_mend(tmp_path: Path, image: str) -> None:
    with pytest.raises(BadRecord, match=f"{image}: Supervisely takes no TIFF; convert the image to PNG"):
        supervisely.write([Record(image, (9, 9), ())], tmp_path, ())


def test_parts_of_an_object_are_one_bitmap_and_holes_stay_polygons(tmp_path: Path) -> None:
    supervisely.write([Record("a.jpg", (50, 50), OUTLINES)], tmp_path, ("leaf", "stem"))
    bitmap, polygon = objects_of(tmp_path)
    assert (bitmap["geometryType"], polygon["geometryType"]) == ("bitmap", "polygon")
    assert polygon["points"]["interior"] == [[[4, 4], [8, 4], [8, 8], [4, 8]]]
