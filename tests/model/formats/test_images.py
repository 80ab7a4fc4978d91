"""Names as other machines and tools give them, and the files that they stand for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from model.errors import BadRecord
from model.formats.images import ImageFinder, image_file
from model.formats.table import FORMATS
from model.records import Record


def put(folder: Path, *names: str) -> Path:
    """A folder with images of 24 x 20 px."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, 20)).save(folder / name)
    return folder


@pytest.mark.parametrize(
    ("name", "there", "wanted"),
    [
        ("a.jpg", "a.jpg", "a.jpg"),
        ("sub\\a.jpg", "sub/a.jpg", "sub/a.jpg"),
        ("frame_000000", "images/frame_000000.PNG", "images/frame_000000.PNG"),
        ("frame.0001", "frame.0001.jpeg", "frame.0001.jpeg"),
        ("a.jpg", "A.JPG", "A.JPG"),
        ("..\\images\\a.jpg", "images/a.jpg", "images/a.jpg"),
        ("C:\\Users\\me\\photos\\a.jpg", "a.jpg", "a.jpg"),
        ("C:\\Users\\me\\photos\\a.jpg", "photos/a.jpg", "photos/a.jpg"),
        ("\\\\server\\share\\a.jpg", "a.jpg", "a.jpg"),
        ("/home/me/photos/a.jpg", "images/a.jpg", "images/a.jpg"),
        ("photos/a.jpg", "a.jpg", "a.jpg"),
        ("/data/upload/1/0a1b2c3d-a.jpg", "images/0a1b2c3d-a.jpg", "images/0a1b2c3d-a.jpg"),
        ("/data/upload/1/0a1b2c3d-a.jpg", "a.jpg", "a.jpg"),
        ("images\\0a1b2c3d-a_b1.jpg", "a b(1).jpg", "a b(1).jpg"),
        # https://github.com/HumanSignal/label-studio/issues/7294: its "COCO with images" on Windows
        (
            "..\\..\\label-studio\\media\\upload\\4\\cb0618f6-a_1.5.png",
            "images/cb0618f6-a_1.5.png",
            "images/cb0618f6-a_1.5.png",
        ),
        ("/data/local-files/?d=field%2001/a.jpg", "field 01/a.jpg", "field 01/a.jpg"),
        ("/data/local-files/?d=photos\\field\\a.jpg", "a.jpg", "a.jpg"),
        ("/data/local-files/?d=a%2520b.jpg", "a%20b.jpg", "a%20b.jpg"),
        # https://github.com/HumanSignal/label-studio/issues/2291, 4121 and 6771: what its converter leaves of addresses
        ("a%20b%2B1", "a b+1.jpg", "a b+1.jpg"),
        ("?d=a%20b", "a b.png", "a b.png"),
        ("?d=field%5C3293148", "images/3293148.jpg", "images/3293148.jpg"),
        ("images/0a1b2c3d__a%20b.jpg", "a b.jpg", "a b.jpg"),
        ("images\\0a1b2c3d__a.jpg", "images/a.jpg", "images/a.jpg"),
        ("a%20b.jpg", "a%20b.jpg", "a%20b.jpg"),
        ("s3://bucket/field/a.jpg", "field/a.jpg", "field/a.jpg"),
        ("https://host/x/a%20b.jpg?token=1", "a b.jpg", "a b.jpg"),
        ("R\u00fcbe.jpg", "Ru\u0308be.jpg", "Ru\u0308be.jpg"),
    ],
)
def test_a_name_stands_for_the_file_that_is_there(tmp_path: Path, name: str, there: str, wanted: str) -> None:
    put(tmp_path, there)
    found = ImageFinder(tmp_path).find(name, (tmp_path,), (tmp_path / "images",))
    assert found.name == wanted
    assert found.path == tmp_path / wanted


def test_the_name_as_it_is_given_counts_before_all_others(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "images/a.jpg", "A.JPG", "x/a.jpg")
    assert ImageFinder(tmp_path).find("a.jpg", (tmp_path,), (tmp_path / "images",)).name == "a.jpg"
    assert ImageFinder(tmp_path).find("x/a.jpg", (tmp_path,)).name == "x/a.jpg"


@pytest.mark.parametrize(
    ("name", "there", "told"),
    [
        ("frame_1", ["frame_1.png", "frame_1.jpg"], "may be frame_1.jpg or frame_1.png"),
        ("frame_1", ["frame_1.png", "images/frame_1.png"], "may be frame_1.png or images/frame_1.png"),
        ("C:\\x\\a.jpg", ["a.jpg", "images/a.jpg"], "may be a.jpg or images/a.jpg"),
        ("a.jpg", ["images/a.jpg", "images/train/a.jpg"], "may be images/a.jpg or images/train/a.jpg"),
        ("/data/upload/1/0a1b2c3d-a_b.jpg", ["a b.jpg", "a_b.jpg"], "may be a b.jpg or a_b.jpg"),
        ("a.jpg", ["A.jpg", "a.JPG"], "may be A.jpg or a.JPG"),
    ],
)
def test_two_candidates_are_named_and_none_is_guessed(tmp_path: Path, name: str, there: list[str], told: str) -> None:
    put(tmp_path, *there)
    with pytest.raises(BadRecord, match=f"{told} in .*; leave one of them there"):
        ImageFinder(tmp_path).find(name, (tmp_path,), (tmp_path / "images", tmp_path / "images" / "train"))


def test_a_given_folder_counts_before_the_one_of_the_annotations(tmp_path: Path) -> None:
    root, images = put(tmp_path / "labels", "sub/a.jpg", "sub/b.jpg"), put(tmp_path / "photos", "sub/a.jpg", "c.jpg")
    finder = ImageFinder(root, images)
    for name, wanted in (("a.jpg", images / "sub/a.jpg"), ("b.jpg", root / "sub/b.jpg"), ("c.jpg", images / "c.jpg")):
        found = finder.find(name, (root / "sub",))
        assert found.path == wanted == image_file(found.name, root, images)
    assert finder.find("d.jpg", (root / "sub",)).name == "sub/d.jpg"


def test_a_given_folder_is_looked_through_where_the_annotations_have_the_same_folders(tmp_path: Path) -> None:
    finder = ImageFinder(tmp_path / "labels", put(tmp_path / "photos", "a.jpg", "sub/a.jpg", "sub/b.jpg", "b.png"))
    assert finder.find("C:\\x\\a.jpg", (tmp_path / "labels" / "sub",)).name == "sub/a.jpg"
    assert finder.find("C:\\x\\a.jpg", (tmp_path / "labels" / "other",)).name == "a.jpg"
    assert finder.find("a.jpg", (tmp_path / "labels" / "img" / "sub",)).name == "sub/a.jpg"


@pytest.mark.parametrize("name", ["/etc/a.jpg", "C:\\a.jpg", "/data/upload/1/0a1b2c3d-a.jpg", "s3://b/a.jpg"])
def test_an_absolute_name_that_is_nowhere_asks_for_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadRecord, match=r"has an absolute path.*, or give the folder of the images with --images"):
        ImageFinder(tmp_path).find(name, (tmp_path,))


def test_nothing_outside_of_the_folders_is_found(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "Images/a.jpg")
    (tmp_path / "in").mkdir()
    with pytest.raises(BadRecord, match=r"'\.\./a\.jpg' lies outside of the folder; .* with --images"):
        ImageFinder(tmp_path / "in").find("../a.jpg", (tmp_path / "in",), (tmp_path / "Images",))


@pytest.mark.parametrize("name", [None, 7, "", " ", ["a.jpg"]])
def test_what_is_no_name_is_refused(tmp_path: Path, name: object) -> None:
    with pytest.raises(BadRecord, match="wanted the name of its image, got"):
        ImageFinder(tmp_path).find(name, (tmp_path,))


@pytest.mark.parametrize("side", [None, 0, 0.0, "", "0", " "])
def test_a_size_that_is_not_told_is_that_of_the_image(tmp_path: Path, side: Any) -> None:
    finder = ImageFinder(put(tmp_path, "a.jpg"))
    found = finder.find("a.jpg", (tmp_path,))
    assert finder.size_hw(found, side, 24) == finder.size_hw(found, 20, side) == (20, 24)
    assert finder.size_hw(found, 5, "6") == (5, 6)


@pytest.mark.parametrize("side", [-1, 1.5, "x", float("nan"), 1e308])
def test_a_size_that_cannot_be_true_is_not_replaced(tmp_path: Path, side: Any) -> None:
    finder = ImageFinder(put(tmp_path, "a.jpg"))
    with pytest.raises((BadRecord, ValueError)):
        finder.size_hw(finder.find("a.jpg", (tmp_path,)), side, 24)


def coco_content(name: str, side: Any) -> str:
    image = {"id": 1, "file_name": name, "width": side, "height": side}
    return json.dumps({"images": [image], "annotations": [], "categories": []})


def labelme_content(name: str, side: Any) -> str:
    return json.dumps({"imagePath": name, "imageWidth": side, "imageHeight": side, "shapes": []})


def darwin_content(name: str, side: Any) -> str:
    item = {"name": name, "path": "/", "slots": [{"type": "image", "width": side, "height": side}]}
    return json.dumps({"item": item, "annotations": []})


def cvat_content(name: str, side: Any) -> str:
    size = "" if side is None else f'width="{side}" height="{side}"'
    return f'<annotations><image id="0" name="{name}" {size}/></annotations>'


def xml_content(name: str, side: Any) -> str:
    size = f"<nrows>{side or ''}</nrows><ncols>{side or ''}</ncols>"
    return f"<annotation><filename>{name}</filename><imagesize>{size}</imagesize></annotation>"


CONTENTS: dict[str, tuple[str, Callable[[str, Any], str]]] = {
    "coco": ("result.json", coco_content),
    "cvat": ("annotations.xml", cvat_content),
    "darwin": ("a.json", darwin_content),
    "labelme": ("a.json", labelme_content),
    "labelme_xml": ("a.xml", xml_content),
}
NAMES = ["a", "D:\\photos\\a.jpg", "..\\photos\\a.jpg", "/data/upload/1/0a1b2c3d-a.jpg", "photos\\a.jpg"]


@pytest.mark.parametrize("side", [None, 0])
@pytest.mark.parametrize("given", [True, False], ids=["--images", "beside the file"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tool", CONTENTS)
def test_every_format_finds_images_by_the_same_rules(
    tmp_path: Path, tool: str, name: str, given: bool, side: Any
) -> None:
    file_name, content = CONTENTS[tool]
    source = tmp_path / "labels"
    images = put(tmp_path / "images" if given else source, "a.jpg")
    source.mkdir(exist_ok=True)
    (source / file_name).write_text(content(name, side))
    problems: list[str] = []
    (record,) = FORMATS[tool].read(source, problems.append, images if given else None)
    assert (record.image, record.size_hw, problems) == ("a.jpg", (20, 24), [])


@pytest.mark.parametrize("tool", CONTENTS)
def test_every_format_names_two_candidates(tmp_path: Path, tool: str) -> None:
    file_name, content = CONTENTS[tool]
    put(tmp_path, "a.jpg", "a.png")
    path = tmp_path / file_name
    path.write_text(content("a", None))
    problems: list[str] = []
    assert list(FORMATS[tool].read(tmp_path, problems.append)) == []
    (problem,) = problems
    assert problem.startswith(str(path)) and "may be a.jpg or a.png" in problem


def read_from(tool: str, source: Path, images: Path) -> list[Record]:
    problems: list[str] = []
    records = list(FORMATS[tool].read(source, problems.append, images))
    assert problems == []
    return records


def test_supervisely_images_lie_in_the_dataset_or_right_in_the_folder(tmp_path: Path) -> None:
    ann = tmp_path / "project" / "ds0" / "ann" / "a.jpg.json"
    ann.parent.mkdir(parents=True)
    ann.write_text(json.dumps({"size": {"width": None, "height": None}, "objects": []}))
    flat, full = put(tmp_path / "flat", "a.jpg"), put(tmp_path / "full", "ds0/img/a.jpg")
    assert [(r.image, r.size_hw) for r in read_from("supervisely", tmp_path / "project", flat)] == [("a.jpg", (20, 24))]
    assert [r.image for r in read_from("supervisely", tmp_path / "project", full)] == ["ds0/img/a.jpg"]


def test_folders_of_labelme_xml_lie_beside_each_other(tmp_path: Path) -> None:
    images = put(tmp_path / "Images", "set1/p1.jpg")
    path = tmp_path / "Annotations" / "set1" / "p1.xml"
    path.parent.mkdir(parents=True)
    points = "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in ((1, 1), (9, 1), (9, 9), (1, 9)))
    leaf = f"<object><name>leaf</name><polygon>{points}</polygon></object>"
    masked = "<object><name>stem</name><segm><mask>m.png</mask></segm></object>"
    path.write_text(f"<annotation><filename>p1.jpg</filename>{leaf}{masked}</annotation>")
    mask = tmp_path / "Masks" / "set1" / "m.png"
    mask.parent.mkdir(parents=True)
    Image.new("L", (24, 20), 255).save(mask)
    (record,) = read_from("labelme_xml", tmp_path / "Annotations", images)
    assert (record.image, record.size_hw) == ("set1/p1.jpg", (20, 24))
    assert [outline.label for outline in record.outlines] == ["leaf", "stem"]
    (record,) = read_from("labelme_xml", path, images / "set1")
    assert record.image == "p1.jpg"
