from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from model.formats import labelme_xml
from model.geometry import polygons_to_mask
from model.records import Outline, Polygon, Record
from tests.model.formats.scenes import box, read, two_parts

POINTS = "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in ((1, 1), (9, 1), (9, 9), (1, 9)))


def an_object(number: int | str, name: str = "leaf", has: str = "", of: str = "", more: str = "") -> str:
    parts = f"<parts><hasparts>{has}</hasparts><ispartof>{of}</ispartof></parts>"
    return f"<object><name>{name}</name><id>{number}</id>{parts}{more}<polygon>{POINTS}</polygon></object>"


def write_xml(path: Path, *objects: str, size: str = "<nrows>20</nrows><ncols>24</ncols>") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = f"<filename>a.jpg</filename><folder>x</folder><imagesize>{size}</imagesize>"
    path.write_text(f"<annotation>{head}{''.join(objects)}</annotation>")


@pytest.mark.parametrize(
    ("objects", "wanted"),
    [
        ([an_object(0, has="1,2"), an_object(1, of="0"), an_object(2, of="0")], [("leaf", 3)]),
        ([an_object(0, has="1"), an_object(1)], [("leaf", 2)]),
        ([an_object(0), an_object(1, of="0")], [("leaf", 2)]),
        ([an_object(0), an_object(1)], [("leaf", 1), ("leaf", 1)]),
        ([an_object(0, "car", has="1,2"), an_object(1, "wheel", of="0"), an_object(2, "wheel", of="0")],
         [("car", 1), ("wheel", 1), ("wheel", 1)]),
        ([an_object(0, of="1"), an_object(1, of="0")], [("leaf", 1), ("leaf", 1)]),
        ([an_object(0, of="7")], [("leaf", 1)]),
        ([an_object(""), an_object("", has="0"), an_object("", of="0"), an_object(0)], [("leaf", 1)] * 4),
        ([an_object(0), an_object(0)], [("leaf", 1), ("leaf", 1)]),
    ],
    ids=["both say so", "the whole says so", "the part says so", "alone", "wheels of a car", "a circle", "of nothing",
         "without ids", "the same id"],
)  # fmt: skip
def test_parts_of_the_same_label_are_one_object(tmp_path: Path, objects: list[str], wanted: list) -> None:
    differing = [text.replace("<x>1</x>", f"<x>{x}</x>") for x, text in enumerate(objects)]
    write_xml(tmp_path / "a.xml", *differing)
    (record,) = read("labelme_xml", tmp_path)
    assert [(outline.label, len(outline.parts)) for outline in record.outlines] == wanted


def test_deleted_objects_are_left_out(tmp_path: Path) -> None:
    gone, kept = (f"<deleted>{value}</deleted>" for value in (1, 0))
    write_xml(tmp_path / "a.xml", an_object(0, "gone", more=gone), an_object(1, "kept", more=kept))
    (record,) = read("labelme_xml", tmp_path)
    assert [outline.label for outline in record.outlines] == ["kept"]


def test_a_part_without_its_deleted_whole_stays(tmp_path: Path) -> None:
    write_xml(tmp_path / "a.xml", an_object(0, has="1", more="<deleted>1</deleted>"), an_object(1, of="0"))
    (record,) = read("labelme_xml", tmp_path)
    assert len(record.outlines) == 1


def test_the_size_comes_from_the_image_where_the_file_does_not_tell_it(tmp_path: Path) -> None:
    Image.new("RGB", (31, 17)).save(tmp_path / "a.jpg")
    write_xml(tmp_path / "a.xml", size="")
    (record,) = read("labelme_xml", tmp_path)
    assert (record.image, record.size_hw) == ("a.jpg", (17, 31))


def test_images_and_masks_are_found_in_datumaros_layout(tmp_path: Path) -> None:
    mask = np.zeros((20, 24), bool)
    mask[3:7, 2:9] = True
    for folder in ("Images/train", "Masks/train"):
        (tmp_path / folder).mkdir(parents=True)
    Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "Masks/train/m.png")
    (tmp_path / "Images/train/a.jpg").touch()
    segm = "<object><name>leaf</name><id>0</id><segm><mask>m.png</mask></segm></object>"
    write_xml(tmp_path / "Annotations/train/a.xml", segm)
    (record,) = read("labelme_xml", tmp_path)
    assert record.image == "Images/train/a.jpg"
    assert np.array_equal(polygons_to_mask(record.outlines[0].parts, (20, 24)), mask)


def test_only_holes_need_a_mask(tmp_path: Path) -> None:
    holed = Polygon(box(2, 2, 12, 12), (box(4, 4, 8, 8),))
    outlines = (Outline("leaf", two_parts(20)), Outline("leaf", (holed, *two_parts(2))))
    labelme_xml.write([Record("x/a.jpg", (50, 50), outlines)], tmp_path, ("leaf",))
    objects = ElementTree.parse(tmp_path / "x" / "a.xml").findall("object")
    assert [element.find("segm") is not None for element in objects] == [False, False, True, False, False]
    assert [element.findtext("parts/hasparts") for element in objects] == ["1", "", "3,4", "", ""]
    assert [element.findtext("parts/ispartof") for element in objects] == ["", "0", "", "2", "2"]
    assert [path.name for path in (tmp_path / "x" / "Masks").iterdir()] == ["a_mask_2.png"]
