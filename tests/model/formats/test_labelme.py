from __future__ import annotations

import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.formats import labelme
from model.formats.masks import encode_png
from model.geometry import polygons_to_mask
from model.records import Outline, Polygon, Record
from tests.model.formats.scenes import box, read, two_parts

SQUARE = [[1, 1], [9, 1], [9, 9], [1, 9]]


def shape(label: str = "leaf", points: Any = SQUARE, **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "shape_type": "polygon", "flags": {}, **more}


def write_json(path: Path, *shapes: dict[str, Any], **changes: Any) -> Path:
    content = {"version": "4.5.6", "flags": {}, "shapes": list(shapes), "imagePath": "a.jpg", "imageData": None}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**content, "imageHeight": 20, "imageWidth": 24, **changes}))
    return path


def test_one_group_and_one_label_is_one_object(tmp_path: Path) -> None:
    grouped = [shape(group_id=1), shape("stem", group_id=1), shape(group_id=1), shape(), shape(), shape(group_id=0)]
    for x, one in enumerate(grouped):
        one["points"] = [[x, 0], *SQUARE[1:]]
    write_json(tmp_path / "a.json", *grouped)
    (record,) = read("labelme", tmp_path)
    assert [(outline.label, len(outline.parts)) for outline in record.outlines] == [
        ("leaf", 2),
        ("stem", 1),
        ("leaf", 1),
        ("leaf", 1),
        ("leaf", 1),
    ]


@pytest.mark.parametrize("name", ["_background_", "__ignore__"])
def test_labelmes_own_labels_for_no_object_are_told_and_no_class(tmp_path: Path, name: str) -> None:
    """As holes are drawn after https://github.com/wkentaro/labelme/issues/813; converters leave them out or cut."""
    write_json(tmp_path / "a.json", shape(), shape(name, [[2, 2], [5, 2], [5, 5]]))
    problems: list[str] = []
    (record,) = labelme.read(tmp_path, problems.append)
    assert [outline.label for outline in record.outlines] == ["leaf"] and len(record.unread) == 1
    assert f"shape 2 ({name}): LabelMe's label for what is no object" in problems[0]


@pytest.mark.parametrize(
    ("more", "pixels"),
    [
        ({"shape_type": "rectangle", "points": [[9, 8], [2, 3]]}, 35),
        ({"shape_type": "rectangle", "points": [[2, 3], [9, 3], [9, 8], [2, 8]]}, 35),
        ({"shape_type": "oriented_rectangle", "points": [[2, 3], [9, 3], [9, 8], [2, 8]]}, 35),
        ({"shape_type": "rotation", "points": [[2, 3], [9, 3], [9, 8], [2, 8]], "direction": 0.3}, 35),
        ({"shape_type": "quadrilateral", "points": [[2, 3], [9, 3], [9, 8], [2, 8]]}, 35),
        ({"shape_type": "circle", "points": [[10, 10], [10, 15]]}, 80),
        ({"shape_type": None}, 64),
    ],
)
def test_every_shape_with_an_area_is_read(tmp_path: Path, more: dict[str, Any], pixels: int) -> None:
    write_json(tmp_path / "a.json", shape(**more))
    (record,) = read("labelme", tmp_path)
    assert polygons_to_mask(record.outlines[0].parts, (20, 24)).sum() == pytest.approx(pixels, abs=1)


def test_files_of_version_4_without_shape_type_and_group_id_are_read(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"label": "leaf", "points": SQUARE})
    (record,) = read("labelme", tmp_path)
    assert len(record.outlines) == 1


def test_a_turned_box_of_x_anylabeling_has_its_score(tmp_path: Path) -> None:
    turned = {"shape_type": "rotation", "points": SQUARE, "direction": 0.0, "difficult": False, "attributes": {}}
    write_json(tmp_path / "a.json", shape(**turned, score=0.87), shape(score=None), version="2.4.4")
    (record,) = read("labelme", tmp_path)
    assert [outline.score for outline in record.outlines] == [0.87, None]
    assert [polygons_to_mask(outline.parts, (20, 24)).sum() for outline in record.outlines] == [64, 64]


@pytest.mark.parametrize(
    ("points", "pixels"),
    [
        ([[4.6, 2.6], [6.6, 4.6]], np.s_[3:6, 5:8]),
        ([[4.5, 2.5], [6.5, 4.5]], np.s_[3:6, 5:8]),
        ([[4.4, 2.4], [6.4, 4.4]], np.s_[2:5, 4:7]),
        ([[5, 3], [8, 6]], np.s_[3:6, 5:8]),
        ([[-1.4, 2], [0.6, 4]], np.s_[2:5, 0:2]),
        ([[22.2, -2.3], [24.2, -0.3]], np.s_[0:1, 22:24]),
        ([[-2, -2], [0, 0]], np.s_[0:1, 0:1]),
    ],
)
def test_a_mask_that_was_moved_by_hand_covers_the_nearest_pixels(tmp_path: Path, points: Any, pixels: Any) -> None:
    png = base64.b64encode(encode_png(np.ones((3, 3), bool))).decode()
    write_json(tmp_path / "a.json", shape(shape_type="mask", points=points, mask=png))
    (record,) = read("labelme", tmp_path)
    wanted = np.zeros((20, 24), bool)
    wanted[pixels] = True
    assert np.array_equal(polygons_to_mask(record.outlines[0].parts, (20, 24)), wanted)


def test_a_mask_lies_where_its_box_says(tmp_path: Path) -> None:
    mask = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool)
    png = base64.b64encode(encode_png(mask)).decode()
    write_json(tmp_path / "a.json", shape(points=[[4.0, 2.0], [6.0, 4.0]], shape_type="mask", mask=png))
    (record,) = read("labelme", tmp_path)
    wanted = np.zeros((20, 24), bool)
    wanted[2:5, 4:7] = mask
    assert np.array_equal(polygons_to_mask(record.outlines[0].parts, (20, 24)), wanted)


@pytest.mark.parametrize(
    ("image", "found"),
    [
        ("..\\images\\a.jpg", "images/a.jpg"),
        ("../images/a.jpg", "images/a.jpg"),
        (".\\ä b.jpg", "ann/ä b.jpg"),
        ("D:\\photos\\here.jpg", "ann/here.jpg"),
        ("/home/me/here.jpg", "ann/here.jpg"),
    ],
)
def test_image_paths_are_told_from_the_folder(tmp_path: Path, image: str, found: str) -> None:
    write_json(tmp_path / "ann" / "x.json", imagePath=image)
    (tmp_path / "ann" / "here.jpg").touch()
    (record,) = read("labelme", tmp_path)
    assert record.image == found


def test_the_size_comes_from_the_embedded_image_where_the_file_does_not_tell_it(tmp_path: Path) -> None:
    content = BytesIO()
    Image.new("RGB", (31, 17)).save(content, "PNG")
    data = base64.b64encode(content.getvalue()).decode()
    write_json(tmp_path / "a.json", imageHeight=None, imageWidth=None, imageData=data)
    (record,) = read("labelme", tmp_path)
    assert record.size_hw == (17, 31)


def test_an_embedded_image_is_found_beside_where_the_image_would_lie(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", imageData=base64.b64encode(b"an image").decode())
    assert labelme.embedded_image(tmp_path, "a.jpg") == b"an image"
    assert labelme.embedded_image(tmp_path, "b.jpg") is None
    write_json(tmp_path / "a.json", imageData=None)
    assert labelme.embedded_image(tmp_path, "a.jpg") is None
    write_json(tmp_path / "a.json", imageData="no base64!")
    assert labelme.embedded_image(tmp_path, "a.jpg") is None


@pytest.mark.parametrize(
    "path", ["C:\\\\Users\\\\me\\\\abs.jpg", "/home/me/abs.jpg", "../images/up.jpg", "", "other.jpg"]
)
def test_an_embedded_image_has_the_name_of_its_file_wherever_the_image_was(tmp_path: Path, path: str) -> None:
    content = BytesIO()
    Image.new("RGB", (24, 20)).save(content, "PNG")
    write_json(tmp_path / "b.json", imagePath=path, imageData=base64.b64encode(content.getvalue()).decode())
    (record,) = read("labelme", tmp_path)
    assert record.image == "b.png"
    assert labelme.embedded_image(tmp_path, record.image) == content.getvalue()


def test_the_size_comes_from_the_upright_image_where_nothing_else_tells_it(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (31, 17)).save(tmp_path / "a.jpg", exif=exif)
    write_json(tmp_path / "a.json", imageHeight=None, imageWidth=None)
    (record,) = read("labelme", tmp_path)
    assert record.size_hw == (31, 17)


def test_objects_of_several_parts_have_group_ids_of_their_own(tmp_path: Path) -> None:
    one = (Polygon(box(1, 1, 9, 9)),)
    outlines = (Outline("leaf", two_parts(2)), Outline("leaf", one), Outline("leaf", two_parts(20)))
    labelme.write([Record("a.jpg", (50, 50), outlines)], tmp_path, ("leaf",))
    content = json.loads((tmp_path / "a.json").read_text())
    assert [entry["group_id"] for entry in content["shapes"]] == [1, 1, None, 3, 3]
    assert (content["imagePath"], content["imageHeight"], content["imageWidth"]) == ("a.jpg", 50, 50)


def test_the_file_lies_beside_the_image(tmp_path: Path) -> None:
    labelme.write([Record("x/y/a.b.jpg", (9, 9), ())], tmp_path, ())
    assert json.loads((tmp_path / "x" / "y" / "a.b.json").read_text())["imagePath"] == "a.b.jpg"


@pytest.mark.parametrize("named", ["old name.jpg", "..\\photos\\old.jpg", "/home/me/old.jpg"])
def test_an_image_that_was_renamed_with_its_file_is_taken_and_told(tmp_path: Path, named: str) -> None:
    """https://github.com/wkentaro/labelme/pull/803, https://github.com/CVHub520/X-AnyLabeling/issues/1206"""
    write_json(tmp_path / "b.1.json", shape(), imagePath=named)
    Image.new("RGB", (24, 20)).save(tmp_path / "b.1.png")
    problems: list[str] = []
    (record,) = labelme.read(tmp_path, problems.append)
    assert (record.image, len(record.outlines), record.unread) == ("b.1.png", 1, ())
    assert problems == [
        f"{tmp_path / 'b.1.json'}: its image {named!r} is not there; taken is b.1.png, which has the file's name"
    ]
    Image.new("RGB", (24, 20)).save(tmp_path / "old.jpg")
    if named != "old name.jpg":
        (record,) = read("labelme", tmp_path)
        assert record.image == "old.jpg"
