from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.formats import darwin
from model.formats.table import FORMATS
from model.geometry import box_of, polygons_to_mask
from model.records import Outline, Polygon, Record
from tests.model.formats.scenes import box, read, two_parts

OUTER, INNER, ISLAND, APART = box(1, 1, 15, 15), box(3, 3, 13, 13), box(6, 6, 10, 10), box(17, 1, 20, 5)


def path_of(ring: np.ndarray) -> list[dict[str, float]]:
    return [{"x": x, "y": y} for x, y in ring.tolist()]


def write_2(folder: Path, *annotations: dict[str, Any], **slot: Any) -> None:
    slots = [{"type": "image", "slot_name": "0", "width": 24, "height": 20, **slot}]
    item = {"name": "a.jpg", "path": "/sub/deep", "slots": slots}
    (folder / "x.json").write_text(json.dumps({"version": "2.0", "item": item, "annotations": list(annotations)}))


def write_1(folder: Path, *annotations: dict[str, Any]) -> None:
    image = {"width": 24, "height": 20, "filename": "a.jpg", "original_filename": "IMG.jpg", "path": "/sub/deep"}
    (folder / "x.json").write_text(json.dumps({"dataset": "d", "image": image, "annotations": list(annotations)}))


def mask_of(folder: Path) -> np.ndarray:
    (record,) = read("darwin", folder)
    (outline,) = record.outlines
    return polygons_to_mask(outline.parts, record.size_hw)


def test_paths_are_filled_by_the_even_odd_rule(tmp_path: Path) -> None:
    rings = [ISLAND, INNER, APART, OUTER]
    write_2(tmp_path, {"name": "leaf", "polygon": {"paths": [path_of(ring) for ring in rings]}})
    (record,) = read("darwin", tmp_path)
    assert [len(part.holes) for part in record.outlines[0].parts] == [0, 0, 1]
    assert mask_of(tmp_path).sum() == 14 * 14 - 10 * 10 + 4 * 4 + 3 * 4


@pytest.mark.parametrize("kind", ["polygon", "complex_polygon"])
def test_additional_paths_of_1_x_belong_to_the_object(tmp_path: Path, kind: str) -> None:
    write_1(tmp_path, {"name": "leaf", kind: {"path": path_of(OUTER), "additional_paths": [path_of(INNER)]}})
    assert mask_of(tmp_path).sum() == 14 * 14 - 10 * 10


@pytest.mark.parametrize("kind", ["polygon", "complex_polygon"])
@pytest.mark.parametrize("key", ["path", "paths", "additional_paths"])
def test_a_path_of_1_x_may_be_a_list_of_paths(tmp_path: Path, kind: str, key: str) -> None:
    paths: dict[str, Any] = {key: [path_of(INNER), path_of(OUTER)]}
    if key == "additional_paths":
        paths = {"path": [path_of(OUTER)], key: [[path_of(INNER)]]}
    write_1(tmp_path, {"name": "leaf", kind: paths})
    assert mask_of(tmp_path).sum() == 14 * 14 - 10 * 10


def test_parts_of_a_complex_polygon_are_one_object(tmp_path: Path) -> None:
    triangles = [[[1, 1], [9, 1], [9, 9]], [[11, 11], [19, 11], [19, 19]]]
    path = [[{"x": x, "y": y} for x, y in triangle] for triangle in triangles]
    write_1(tmp_path, {"name": "leaf", "complex_polygon": {"path": path}})
    (record,) = read("darwin", tmp_path)
    (outline,) = record.outlines
    assert [part.exterior.tolist() for part in outline.parts] == triangles


@pytest.mark.parametrize("few", [[], [[1, 1]], [[1, 1], [2, 2]], [[1, 1], [2, 2], [1, 1]]])
def test_a_path_without_area_costs_only_itself(tmp_path: Path, few: list[list[int]]) -> None:
    paths = [path_of(OUTER), path_of(np.array(few, float).reshape(-1, 2))]
    write_2(tmp_path, {"name": "leaf", "polygon": {"paths": paths}})
    problems: list[str] = []
    (record,) = FORMATS["darwin"].read(tmp_path, problems.append)
    assert polygons_to_mask(record.outlines[0].parts, record.size_hw).sum() == 14 * 14
    assert record.unread == (), "nothing is lost"
    (problem,) = problems
    assert problem.startswith(f"{tmp_path / 'x.json'}: annotation 1 (leaf): 1 of its 2 parts left out: fewer than 3")


@pytest.mark.parametrize("write", [write_1, write_2])
def test_the_image_lies_in_its_folder(tmp_path: Path, write: Any) -> None:
    write(tmp_path)
    assert [record.image for record in read("darwin", tmp_path)] == ["sub/deep/a.jpg"]
    (tmp_path / "images/sub/deep").mkdir(parents=True)
    (tmp_path / "images/sub/deep/a.jpg").touch()
    assert [record.image for record in read("darwin", tmp_path)] == ["images/sub/deep/a.jpg"]


def test_the_size_comes_from_the_image_where_the_file_does_not_tell_it(tmp_path: Path) -> None:
    Image.new("RGB", (31, 17)).save(tmp_path / "a.jpg")
    write_2(tmp_path, width=None)
    (record,) = read("darwin", tmp_path)
    assert (record.image, record.size_hw) == ("a.jpg", (17, 31))


def test_a_box_of_a_polygon_is_no_object_but_one_alone_is(tmp_path: Path) -> None:
    frame = {"x": 2, "y": 3, "w": 5, "h": 4}
    write_2(tmp_path, {"name": "leaf", "bounding_box": frame, "polygon": {"paths": [path_of(OUTER)]}})
    assert mask_of(tmp_path).sum() == 14 * 14
    write_2(tmp_path, {"name": "leaf", "bounding_box": frame})
    assert box_of(mask_of(tmp_path)).tolist() == [2, 3, 7, 7]


def test_an_ellipse_turns_by_radians(tmp_path: Path) -> None:
    shape = {"center": {"x": 12, "y": 10}, "radius": {"x": 8, "y": 3}, "angle": np.pi / 2}
    write_2(tmp_path, {"name": "leaf", "ellipse": shape})
    assert box_of(mask_of(tmp_path)).tolist() == [9, 2, 15, 18]


def test_masks_share_a_raster_layer(tmp_path: Path) -> None:
    layer = {"dense_rle": [0, 24, 2, 3, 0, 21, 1, 2, 0, 430], "mask_annotation_ids_mapping": {"p": 1, "q": 2}}
    masks = [{"id": key, "name": name, "mask": {}} for key, name in (("p", "leaf"), ("q", "stem"))]
    write_2(tmp_path, {"id": "r", "name": "__raster_layer__", "raster_layer": layer}, *masks)
    (record,) = read("darwin", tmp_path)
    boxes = {o.label: box_of(polygons_to_mask(o.parts, (20, 24))).tolist() for o in record.outlines}
    assert boxes == {"leaf": [0, 2, 2, 3], "stem": [0, 1, 3, 2]}


def test_tags_of_the_image_are_passed_over(tmp_path: Path) -> None:
    write_2(tmp_path, {"name": "good", "tag": {}})
    (record,) = read("darwin", tmp_path)
    assert record.outlines == ()


def test_a_written_file_has_item_slot_box_and_confidence(tmp_path: Path) -> None:
    record = Record("x/y/a.jpg", (50, 50), (Outline("leaf", two_parts(2), 0.5), Outline("leaf", two_parts(2))))
    darwin.write([record], tmp_path, ("leaf",))
    content = json.loads((tmp_path / "x" / "y" / "a.json").read_text())
    assert (content["version"], content["item"]["name"], content["item"]["path"]) == ("2.0", "a.jpg", "/x/y")
    assert [content["item"]["slots"][0][key] for key in ("type", "width", "height")] == ["image", 50, 50]
    first, second = content["annotations"]
    assert first["bounding_box"] == {"x": 2, "y": 4, "w": 12, "h": 36}
    assert first["inference"] == {"confidence": 0.5} and "inference" not in second
    assert first["id"] != second["id"]


def test_ids_are_the_same_for_the_same_record(tmp_path: Path) -> None:
    record = Record("a.jpg", (50, 50), (Outline("leaf", (Polygon(OUTER),)),))
    contents = []
    for name in ("one", "two"):
        darwin.write([record], tmp_path / name, ("leaf",))
        contents.append((tmp_path / name / "a.json").read_text())
    assert contents[0] == contents[1]
