"""Each broken thing gives one line that names file, place and reason, and all the rest is read."""

from __future__ import annotations

import base64
import json
import math
import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.formats.masks import encode_png
from model.formats.table import FORMATS
from tests.model.formats.broken import HOLED, JSON_FILES, LEAVES, XML_FILES, read, written

NAN = math.nan
BOMB = """<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a0 "lol">{}]><annotations>&a9;</annotations>""".format(
    "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
)
SPY = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><annotation><a>&e;</a></annotation>'


def change(path: Path, edit: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text())
    content = edit(content) or content
    path.write_text(json.dumps(content))


def at(*keys: str | int, value: Any = None, gone: bool = False) -> Callable[[Any], None]:
    """An edit that sets or deletes what stands at a place of JSON content."""

    def edit(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        if gone:
            del content[keys[-1]]
        else:
            content[keys[-1]] = value

    return edit


def both(*edits: Callable[[Any], None]) -> Callable[[Any], None]:
    def edit(content: Any) -> None:
        for one in edits:
            one(content)

    return edit


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "wanted (JSON|XML)"),
        ("{", "wanted (JSON|XML)"),
        ("<annotation", "wanted (JSON|XML)"),
        ("[]", "wanted (LabelMe|Darwin|a Supervisely|COCO|XML)"),
        ('{"a": 1}', "wanted (LabelMe|Darwin|a Supervisely|COCO|XML)"),
        ("<kml/>", "wanted (JSON|CVAT's|LabelMe's)"),
        ("[" * 100_000, "RecursionError|wanted XML"),
        ("\0\0", "wanted (JSON|XML)"),
        (b"\xff\xfe\x00", "wanted (JSON|XML)"),
        (BOMB, "wanted (JSON|XML).*"),
        (SPY, "wanted (JSON|XML).*"),
    ],
    ids=["empty", "cut", "cut xml", "list", "other json", "other xml", "deep", "zeros", "bytes", "bomb", "spy"],
)
@pytest.mark.parametrize("name", JSON_FILES | XML_FILES)
@pytest.mark.timeout(20)
def test_a_file_that_is_something_else_costs_only_itself(
    name: str, content: str | bytes, reason: str, tmp_path: Path
) -> None:
    good = written(name, tmp_path)
    broken = good.with_name(f"0{good.name}")
    broken.write_bytes(content if isinstance(content, bytes) else content.encode())
    images, problems = read(name, tmp_path)
    assert images == {"a.jpg": 2, "b.jpg": 2}
    (problem,) = problems
    assert re.search(rf"{re.escape(str(broken))}.*{reason}|{reason}.*{re.escape(str(broken))}", problem)
    assert "\n" not in problem


@pytest.mark.parametrize("name", XML_FILES)
def test_a_bomb_is_refused_as_such(name: str, tmp_path: Path) -> None:
    path = written(name, tmp_path)
    path.write_text(BOMB)
    assert "EntitiesForbidden" in read(name, tmp_path)[1][0]


@pytest.mark.parametrize("name", JSON_FILES | XML_FILES)
def test_a_file_cut_off_at_any_place_never_raises(name: str, tmp_path: Path) -> None:
    path = written(name, tmp_path, HOLED, *LEAVES)
    whole = path.read_bytes()
    for end in range(0, len(whole) - 2, 31):
        path.write_bytes(whole[:end])
        images, problems = read(name, tmp_path)
        assert len(problems) == 1 and str(path) in problems[0]
        if name not in ("coco", "cvat"):
            assert images["b.jpg"] == 2


def test_images_before_the_place_where_cvat_is_cut_off_are_read(tmp_path: Path) -> None:
    path = written("cvat", tmp_path)
    path.write_text(path.read_text()[:-60])
    assert read("cvat", tmp_path)[0] == {"a.jpg": 2}


PATH_0 = ("annotations", 0, "polygon", "paths", 0)
BROKEN_JSON = [
    ("labelme", at("imagePath", gone=True), "'imagePath' is missing"),
    ("labelme", at("imagePath", value=7), "wanted the name of its image, got 7"),
    ("labelme", at("imagePath", value="D:\\x\\a.jpg"), r"'D:\\\\x\\\\a\.jpg' has an absolute path"),
    ("labelme", at("imagePath", value="..\\a.jpg"), "lies outside of .*give the folder that holds both"),
    ("labelme", at("imageHeight", value=NAN), "size 24 x nan, wanted whole numbers"),
    ("labelme", at("imageWidth", value=-4), "size -4 x 20"),
    ("labelme", at("imageWidth", value=10**12), "size 10+ x 20"),
    ("labelme", at("imageWidth", value=None), r"image cannot be read .*a\.jpg"),
    ("labelme", both(at("imageWidth", value=None), at("imageData", value="%%")), "wanted base64 text, got '%%'"),
    ("labelme", both(at("imageWidth", value=None), at("imageData", value="abcd")), "image cannot be read"),
    ("labelme", at("shapes", value={}), "wanted LabelMe JSON with 'shapes'"),
    ("darwin", at("item", "name", gone=True), "'name' is missing"),
    ("darwin", at("item", "name", value=""), "wanted the name of its image, got ''"),
    ("darwin", at("item", "path", value="/../.."), "lies outside of"),
    ("darwin", at("item", "slots", 0, "width", value=0), r"image cannot be read .*a\.jpg"),
    ("darwin", at("item", "slots", 0, "width", value=-3), "size -3 x 20"),
    ("darwin", at("item", "slots", 0, "width", gone=True), r"image cannot be read .*a\.jpg"),
    ("darwin", at("item", "slots", 0, "type", value="video"), "wanted an item with one image, got video"),
    ("darwin", at("item", "slots", value=[{"type": "image"}] * 2), "got image, image; export its images one by one"),
    ("darwin", at("item", "slots", value=3), "not built as the format wants it"),
    ("darwin", at("annotations", gone=True), "wanted Darwin JSON"),
    ("supervisely", at("size", gone=True), r"image cannot be read .*a\.jpg"),
    ("supervisely", at("size", "width", value="x"), "could not convert string to float"),
    ("supervisely", at("size", value=[20, 24]), "not built as the format wants it"),
    ("coco", at("categories", gone=True), "categories: .*'categories' is missing"),
    ("coco", at("annotations", value=5), "wanted COCO instances"),
]


@pytest.mark.parametrize(("name", "edit", "reason"), BROKEN_JSON)
def test_a_broken_file_is_one_line(name: str, edit: Callable[[Any], None], reason: str, tmp_path: Path) -> None:
    path = written(name, tmp_path)
    change(path, edit)
    images, problems = read(name, tmp_path)
    assert images == ({} if name == "coco" else {"b.jpg": 2})
    (problem,) = problems
    assert re.fullmatch(rf"{re.escape(str(path))}: .*{reason}.*", problem)


BITMAP = base64.b64encode(zlib.compress(encode_png(np.ones((4, 5), bool), "P"))).decode()
MASK = base64.b64encode(encode_png(np.ones((4, 5), bool))).decode()
BIG_BITMAP = base64.b64encode(zlib.compress(encode_png(np.ones((4000, 5000), bool), "P"))).decode()
ZEROS = base64.b64encode(zlib.compress(bytes(10**8))).decode()


def labelme_mask(mask: Any, *points: list[float]) -> Callable[[Any], None]:
    return at("shapes", 0, value={"label": "leaf", "shape_type": "mask", "points": list(points), "mask": mask})


def bitmap(data: Any, origin: Any) -> Callable[[Any], None]:
    entry = {"classTitle": "leaf", "geometryType": "bitmap", "bitmap": {"data": data, "origin": origin}}
    return at("objects", 0, value=entry)


def shape_of(kind: str, points: Any) -> Callable[[Any], None]:
    return both(at("shapes", 0, "shape_type", value=kind), at("shapes", 0, "points", value=points))


def raster(runs: Any, mapping: Any) -> Callable[[Any], None]:
    def edit(content: Any) -> None:
        content["annotations"][0] = {"id": "m", "name": "leaf", "mask": {}}
        layer = {"dense_rle": runs, "mask_annotation_ids_mapping": mapping, "total_pixels": 480}
        content["annotations"].append({"id": "r", "name": "__raster_layer__", "raster_layer": layer})

    return edit


def of_darwin(kind: str, value: Any) -> Callable[[Any], None]:
    return at("annotations", 0, value={"id": "x", "name": "leaf", kind: value})


BROKEN_OBJECTS = [
    ("labelme", at("shapes", 0, "label", value=None), r"shape 1 \(None\): wanted a label, got None"),
    ("labelme", at("shapes", 0, "label", value=" "), "shape 1 .*: wanted a label, got ' '"),
    ("labelme", at("shapes", 0, "points", gone=True), r"shape 1 \(leaf\): 'points' is missing"),
    ("labelme", at("shapes", 0, "points", 1, 0, value=NAN), "not a finite number"),
    ("labelme", at("shapes", 0, "points", 1, 0, value="x"), "could not convert"),
    ("labelme", at("shapes", 0, "points", 1, value=[1]), "inhomogeneous"),
    ("labelme", at("shapes", 0, "points", value=[[1, 2], [3, 4]]), "at least 3 points"),
    ("labelme", at("shapes", 0, "points", value=[]), r"wanted points \[\[x, y\], ...\], got \[\]"),
    ("labelme", at("shapes", 0, "points", 1, 0, value=10**400), "OverflowError"),
    ("labelme", at("shapes", 0, value="leaf"), r"shape 1 \(None\): .*not built as the format wants it"),
    ("labelme", at("shapes", 0, "group_id", value=[1]), "unhashable"),
    ("labelme", at("shapes", 0, "shape_type", value="linestrip"), "a linestrip is no object; it is left out"),
    ("labelme", at("shapes", 0, "shape_type", value="point"), "a point is no object"),
    ("labelme", at("shapes", 0, "shape_type", value=[1]), "unhashable"),
    ("labelme", shape_of("rectangle", [[1, 1], [1, 9]]), "has no area; delete it"),
    ("labelme", shape_of("circle", [[5, 5], [5, 5]]), "radii 0 and 0, wanted more than 0"),
    ("labelme", shape_of("circle", [[5, 5], [NAN, 5]]), "radii nan and nan"),
    ("labelme", shape_of("circle", [[5, 5]]), "not enough values"),
    ("labelme", labelme_mask(MASK, [2, 2], [8, 5]), "its mask has 5 x 4 pixels, its box 7 x 4; export it again"),
    (
        "labelme",
        labelme_mask(MASK, [24, 2], [28, 5]),
        "x 24..29, y 2..6, all outside of its image of 24 x 20",
    ),
    ("labelme", labelme_mask("?", [2, 2], [6, 5]), "wanted base64 text, got '\\?'"),
    ("labelme", labelme_mask("abcd", [2, 2], [6, 5]), "its mask is no image"),
    ("labelme", labelme_mask(MASK[:60], [2, 2], [6, 5]), "its mask is no image"),
    ("labelme", labelme_mask(None, [2, 2], [6, 5]), "wanted base64 text, got 'None'"),
    ("darwin", at("annotations", 0, "name", gone=True), r"annotation 1 \(None\): 'name' is missing"),
    ("darwin", at(*PATH_0, 1, "x", value=NAN), r"annotation 1 \(leaf\): .*not a finite number"),
    ("darwin", at(*PATH_0, 1, "x", gone=True), "'x' is missing"),
    ("darwin", at(*PATH_0, value=[]), "at least 3 points"),
    ("darwin", at(*PATH_0[:-1], value=[]), "its polygon has no path"),
    ("darwin", at("annotations", 0, value=3), "annotation 1 .*not built as the format wants it"),
    ("darwin", at("annotations", 0, "inference", value={"confidence": 1.5}), "score of object 'leaf' is 1.5"),
    (
        "darwin",
        at("annotations", 0, "inference", value={"confidence": "x"}),
        r"annotation 1 \(leaf\): the score of object .leaf. is .x., wanted 0",
    ),
    ("darwin", of_darwin("line", {"path": []}), "a line is no object; it is left out"),
    ("darwin", of_darwin("bounding_box", {"x": 1, "y": 1, "w": 0, "h": 4}), "has no area"),
    ("darwin", of_darwin("bounding_box", {"x": 1, "y": 1, "w": 2}), "'h' is missing"),
    ("darwin", of_darwin("ellipse", {"center": {"x": 1, "y": 1}}), "'radius' is missing"),
    ("darwin", raster([0, 480], {}), "its mask is in no raster layer"),
    ("darwin", raster([0, 479], {"m": 1}), "its raster layer covers 479 pixels, its image has 480"),
    ("darwin", raster([0, 500, 1, -20], {"m": 1}), "its raster layer covers 480 pixels"),
    ("darwin", raster([0, 480], {"m": 1}), "its mask holds no pixel"),
    ("supervisely", at("objects", 0, "classTitle", gone=True), r"object 1 \(None\): 'classTitle' is missing"),
    (
        "supervisely",
        at("objects", 0, "points", "exterior", 1, 0, value=NAN),
        r"object 1 \(leaf\): .*not a finite number",
    ),
    ("supervisely", at("objects", 0, "points", "exterior", value=[[1, 2], [3, 4]]), "at least 3 points"),
    ("supervisely", at("objects", 0, "geometryType", value="line"), "a line is no object; it is left out"),
    (
        "supervisely",
        bitmap(BITMAP, [24, 2]),
        "x 24..29, y 2..6, all outside of its image of 24 x 20",
    ),
    ("supervisely", bitmap(BITMAP, [-5, 2]), "its mask covers x -5..0"),
    ("supervisely", bitmap(BITMAP, [2]), "not enough values"),
    ("supervisely", bitmap("&&", [2, 2]), "wanted base64 text"),
    ("supervisely", bitmap("abcd", [2, 2]), "its bitmap cannot be unpacked"),
    ("supervisely", bitmap(ZEROS, [2, 2]), "its mask is no image"),
    ("supervisely", bitmap(BIG_BITMAP, [2, 2]), "its mask is 5000 x 4000, its image 24 x 20 pixels"),
    ("coco", at("annotations", 0, "segmentation", 0, 1, value=NAN), "annotation 1: .*not a finite number"),
    ("coco", at("annotations", 0, "score", value=-1), "annotation 1: the score of object 'leaf' is -1, wanted 0..1"),
    ("coco", at("annotations", 0, "score", value="0.9"), "annotation 1: the score of object 'leaf' is '0.9', wanted"),
    ("coco", at("annotations", 0, "category_id", value=9), "annotation 1: its category_id 9 stands for nothing"),
    ("coco", at("annotations", 0, "segmentation", value=[]), "annotation 1: it has no outline"),
    ("coco", at("annotations", 0, "segmentation", value={"size": [20, 24], "counts": [5]}), "annotation 1: its RLE"),
    ("coco", at("annotations", 0, "iscrowd", value=1), "left out 1 annotations with iscrowd=1"),
    ("coco", at("annotations", 0, value="x"), "annotation 'x'"),
]


@pytest.mark.parametrize(("name", "edit", "reason"), BROKEN_OBJECTS)
def test_a_broken_object_is_one_line(name: str, edit: Callable[[Any], None], reason: str, tmp_path: Path) -> None:
    path = written(name, tmp_path)
    change(path, edit)
    images, problems = read(name, tmp_path)
    assert images == {"a.jpg": 1, "b.jpg": 2}
    (problem,) = problems
    assert re.fullmatch(rf"{re.escape(str(path))}: .*{reason}.*|{re.escape(str(path))}: {reason}.*", problem)


def test_a_broken_image_of_coco_costs_only_itself(tmp_path: Path) -> None:
    path = written("coco", tmp_path)
    change(path, both(at("images", 0, "height", value=0), at("annotations", value=[])))
    images, problems = read("coco", tmp_path)
    assert images == {"b.jpg": 0}
    (problem,) = problems
    assert re.fullmatch(rf"{path}: image 1: the size of its image is not in the file, .*a\.jpg.*", problem)


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_folder_is_a_problem_with_its_mend(name: str, tmp_path: Path) -> None:
    for source in (tmp_path, tmp_path / "nowhere"):
        images, problems = read(name, source)
        assert images == {}
        (problem,) = problems
        assert re.search(rf"^{source}: wanted .*files, found none; give the folder of the export", problem)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_reads_an_object_that_was_saved_twice_once(name: str, tmp_path: Path) -> None:
    written(name, tmp_path, *LEAVES, LEAVES[1])
    images, problems = read(name, tmp_path)
    assert images == {"a.jpg": 2, "b.jpg": 2}
    (problem,) = problems
    assert re.search(r"a\.jpg: left out 1 of its 3 objects, each exactly like another one; delete them$", problem)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("archive", ["export.zip", "export.TAR"])
def test_an_export_that_is_not_unpacked_is_told_with_the_mend(name: str, archive: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / archive, "w") as packed:
        packed.writestr("a.txt", "")
    told = f"{tmp_path / archive}: wanted a folder or one of its files, got an archive; unpack it and give its folder"
    assert read(name, tmp_path / archive) == ({}, [told])
