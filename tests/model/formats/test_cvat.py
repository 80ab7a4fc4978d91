from __future__ import annotations

import tracemalloc
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from model.errors import BadRecord
from model.formats import cvat
from model.geometry import box_of, polygons_to_mask
from model.records import Outline, Polygon, Record
from tests.model.formats.scenes import box, read, two_parts

SQUARE = 'points="1,1;9,1;9,9;1,9"'


def write_xml(folder: Path, *shapes: str, image: str = 'name="a.jpg" width="24" height="20"') -> Path:
    path = folder / "annotations.xml"
    path.write_text(f"<annotations><image id='0' {image}>{''.join(shapes)}</image></annotations>")
    return path


def mask_of(folder: Path) -> np.ndarray:
    (record,) = read("cvat", folder)
    (outline,) = record.outlines
    return polygons_to_mask(outline.parts, record.size_hw)


def test_one_group_and_one_label_is_one_object_and_group_0_is_none(tmp_path: Path) -> None:
    shapes = [("leaf", 1), ("stem", 1), ("leaf", 1), ("leaf", 0), ("leaf", 0)]
    squares = (f'points="{x},1;9,1;9,9;1,9"' for x in range(len(shapes)))
    drawn = (f'<polygon label="{label}" group_id="{group}" {next(squares)}/>' for label, group in shapes)
    write_xml(tmp_path, *drawn)
    (record,) = read("cvat", tmp_path)
    assert [(outline.label, len(outline.parts)) for outline in record.outlines] == [
        ("leaf", 2),
        ("stem", 1),
        ("leaf", 1),
        ("leaf", 1),
    ]


def test_a_box_that_frames_the_mask_of_its_group_is_no_part(tmp_path: Path) -> None:
    polygon = '<polygon label="leaf" group_id="1" points="1,5;5,1;9,5;5,9"/>'
    frame, other = (f'<box label="leaf" group_id="1" xtl="1" ytl="1" xbr="{right}" ybr="9"/>' for right in (9, 20))
    write_xml(tmp_path, polygon, frame)
    assert mask_of(tmp_path).sum() == 40
    write_xml(tmp_path, polygon, other)
    assert mask_of(tmp_path).sum() == 19 * 8


def test_a_box_turns_clockwise_around_its_middle(tmp_path: Path) -> None:
    write_xml(tmp_path, '<box label="leaf" xtl="2" ytl="8" xbr="18" ybr="12" rotation="90.00"/>')
    assert box_of(mask_of(tmp_path)).tolist() == [8, 2, 12, 18]
    write_xml(tmp_path, '<box label="leaf" xtl="2" ytl="9" xbr="18" ybr="11" rotation="30"/>')
    mask = mask_of(tmp_path)
    assert mask[:10, :8].any() and not mask[11:, :8].any(), "its left end goes up"


def test_an_ellipse_has_its_area_and_turns(tmp_path: Path) -> None:
    write_xml(tmp_path, '<ellipse label="leaf" cx="12" cy="10" rx="8" ry="3" rotation="90"/>')
    mask = mask_of(tmp_path)
    assert mask.sum() == pytest.approx(np.pi * 24, abs=3)
    assert box_of(mask).tolist() == [9, 2, 15, 18]


def test_a_mask_runs_along_the_rows_of_its_box(tmp_path: Path) -> None:
    write_xml(tmp_path, '<mask label="leaf" rle="1, 3, 1, 1" left="5" top="2" width="3" height="2"/>')
    wanted = np.zeros((20, 24), bool)
    wanted[2:4, 5:8] = [[0, 1, 1], [1, 0, 1]]
    assert np.array_equal(mask_of(tmp_path), wanted)


def test_tags_of_the_image_are_passed_over(tmp_path: Path) -> None:
    write_xml(tmp_path, '<tag label="good"/>', f'<polygon label="leaf" {SQUARE}/>')
    assert mask_of(tmp_path).sum() == 64


@pytest.mark.parametrize("place", ["a.jpg", "images/a.jpg", "images/Train/a.jpg"])
def test_images_are_found_in_the_folders_of_cvats_exports(tmp_path: Path, place: str) -> None:
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).touch()
    write_xml(tmp_path, image='name="a.jpg" subset="Train" width="24" height="20"')
    (record,) = read("cvat", tmp_path)
    assert record.image == place


def test_parts_share_a_group_and_only_holes_need_a_mask(tmp_path: Path) -> None:
    holed = Polygon(box(2, 2, 12, 12), (box(4, 4, 8, 8),))
    outlines = (Outline("leaf", two_parts(2)), Outline("leaf", (holed,)), Outline("leaf", (holed, *two_parts(20))))
    cvat.write([Record("a.jpg", (50, 50), outlines)], tmp_path, ("leaf", "stem"))
    (image,) = ElementTree.parse(tmp_path / "annotations.xml").findall("image")
    assert [(shape.tag, shape.get("group_id")) for shape in image] == [
        ("polygon", "1"),
        ("polygon", "1"),
        ("mask", None),
        ("mask", "3"),
        ("polygon", "3"),
        ("polygon", "3"),
    ]
    assert cvat.class_names(tmp_path / "annotations.xml") == ("leaf", "stem")


def test_parts_of_a_skeleton_are_no_classes(tmp_path: Path) -> None:
    labels = "<label><name>leaf</name></label><label><name>1</name><parent>leaf</parent></label>"
    (tmp_path / "a.xml").write_text(
        f"<annotations><meta><project><labels>{labels}</labels></project></meta></annotations>"
    )
    assert cvat.class_names(tmp_path / "a.xml") == ("leaf",)


def test_an_object_without_a_pixel_is_not_written_as_a_mask(tmp_path: Path) -> None:
    outside = Polygon(box(90, 90, 99, 99), (box(92, 92, 95, 95),))
    cvat.write([Record("a.jpg", (50, 50), (Outline("leaf", (outside,)),))], tmp_path, ("leaf",))
    text = (tmp_path / "annotations.xml").read_text()
    assert "<polygon" in text and "<mask" not in text


def test_a_name_that_xml_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRecord, match=r"holds the character '\\x01', which XML cannot hold"):
        cvat.write([], tmp_path, ("le\x01af",))
    assert not (tmp_path / "annotations.xml").exists()


def test_a_long_file_does_not_fill_the_memory(tmp_path: Path) -> None:
    polygon = f'<polygon label="leaf" points="{";".join(f"{x},{x % 7}" for x in range(400))}"/>'
    image = f'<image id="0" name="a.jpg" width="24" height="20">{polygon * 20}</image>'
    (tmp_path / "a.xml").write_text(f"<annotations>{image * 200}</annotations>")  # 9 MB
    tracemalloc.start()
    assert sum(1 for _ in cvat.read(tmp_path, print)) == 200
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (tmp_path / "a.xml").stat().st_size / 4


@pytest.mark.parametrize(
    ("points", "told"),
    [
        ("", "it has no points, wanted points='x,y;x,y;...'; draw its outline or delete it"),
        (" ; ", "it has no points, wanted points='x,y;x,y;...'; draw its outline or delete it"),
        ("1,1;9;9,9", "wanted points='x,y;x,y;...', got '1,1;9;9,9'; export the file again"),
        ("1,1;nine,1;9,9", "wanted points='x,y;x,y;...', got '1,1;nine,1;9,9'; export the file again"),
    ],
)
def test_points_that_are_none_are_told_with_file_image_and_object(tmp_path: Path, points: str, told: str) -> None:
    path = write_xml(tmp_path, f'<polygon label="leaf" points="{points}"/>', f'<polygon label="leaf" {SQUARE}/>')
    lines: list[str] = []
    (record,) = cvat.read(tmp_path, lines.append)
    assert len(record.outlines) == 1
    assert lines == [f"{path}: image 'a.jpg', polygon 1 (leaf): {told}"]
