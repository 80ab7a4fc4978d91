"""Each broken shape, image or mask of an XML format gives one line, and all the rest is read."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.formats.masks import encode_png
from tests.model.formats.broken import HOLED, LEAVES, read, written


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("2.00,2.00;", "nan,2.00;", "not a finite number"),
        ("2.00,2.00;", "2.00;", "wanted points='x,y;x,y;...', got '2.00;"),
        ("2.00,2.00;", "x,2.00;", "wanted points='x,y;x,y;...', got 'x,"),
        (' points="2.00,2.00;8.00,2.00;8.00,12.00;2.00,12.00"', "", "'points' is missing"),
        ("2.00,2.00;8.00,2.00;8.00,12.00;2.00,12.00", "2,2;8,2", "at least 3 points"),
        ('<polygon label="leaf"', '<polygon label=""', "wanted a label, got ''"),
        ('<polygon label="leaf"', "<polygon", "wanted a label, got None"),
        ('<polygon label="leaf"', '<polygon label="leaf" group_id="x"', "invalid literal for int"),
        ("<polygon", "<polyline", "<polyline> is no object; it is left out"),
        (
            "<polygon",
            '<mask rle="3, 4" left="1" top="1" width="3" height="3"',
            "its RLE covers 7 pixels, its box has 9",
        ),
        ("<polygon", '<mask rle="-3, 12" left="1" top="1" width="3" height="3"', "its RLE covers 9 pixels"),
        (
            "<polygon",
            '<mask rle="0, 9" left="24" top="1" width="3" height="3"',
            "covers x 24..27, y 1..4, all",
        ),
        ("<polygon", '<mask rle="0, 9" left="1" top="1" width="3"', "'height' is missing"),
        ("<polygon", '<mask rle="0,9" left="1" top="1" width="1000000000" height="9"', "is 1000000000 x 9, its image"),
        ("<polygon", '<mask rle="" left="0" top="0" width="1" height="1"', "its mask holds no pixel; delete it"),
        ("<polygon", '<mask rle="0" left="0" top="0" width="1" height="1"', "its mask holds no pixel; delete it"),
        ("<polygon", '<mask rle="x" left="1" top="1" width="3" height="3"', "invalid literal for int"),
        ("<polygon", '<mask rle="9" left="1" top="1" width="3" height="3"', "holds no pixel"),
        ("<polygon", '<box xtl="1" ytl="1" xbr="1" ybr="5"', "has no area"),
        ("<polygon", '<box xtl="1" ytl="1" xbr="3" ybr="x"', "could not convert"),
        ("<polygon", '<ellipse cx="1" cy="1" rx="0" ry="5"', "radii 0 and 5"),
    ],
)
def test_a_broken_shape_of_cvat_is_one_line(old: str, new: str, reason: str, tmp_path: Path) -> None:
    path = written("cvat", tmp_path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1).replace("points=", "points=", 1))
    images, problems = read("cvat", tmp_path)
    assert images == {"a.jpg": 1, "b.jpg": 2}
    (problem,) = problems
    assert re.fullmatch(rf"{re.escape(str(path))}: image 'a\.jpg', \w+ 1 \((leaf|None|)\): .*{reason}.*", problem)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (' height="20"', "", "image 'a.jpg': the size of its image is not in the file, and the image cannot be read"),
        ('height="20"', 'height="tall"', "image 'a.jpg': could not convert"),
        ('name="a.jpg"', 'name="../../a.jpg"', r"image '\.\./\.\./a\.jpg': its .* lies outside of"),
        ('name="a.jpg"', "", "image None: 'name' is missing"),
    ],
)
def test_a_broken_image_of_cvat_is_one_line(old: str, new: str, reason: str, tmp_path: Path) -> None:
    path = written("cvat", tmp_path)
    path.write_text(path.read_text().replace(old, new, 1))
    images, problems = read("cvat", tmp_path)
    assert images == {"b.jpg": 2}
    (problem,) = problems
    assert re.match(rf"{re.escape(str(path))}: {reason}", problem)


def test_tracks_of_a_cvat_video_are_told_with_the_mend(tmp_path: Path) -> None:
    (tmp_path / "v.xml").write_text('<annotations><track id="0" label="a"><box/></track><track/></annotations>')
    images, problems = read("cvat", tmp_path)
    assert images == {}
    mend = "they are of a video; export the task as 'CVAT for images 1.1'"
    assert problems == [f"{tmp_path / 'v.xml'}: left out 2 tracks: {mend}"]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("<x>2.00</x>", "<x>nan</x>", "not a finite number"),
        ("<x>2.00</x>", "<x/>", "could not convert"),
        ("<x>2.00</x>", "", "float\\(\\) argument|nan|not built|finite"),
        ("<name>leaf</name>", "<name> </name>", "wanted a label, got ''"),
        ("polygon>", "poly>", "it has neither a polygon nor a mask"),
    ],
)
def test_a_broken_object_of_labelme_xml_is_one_line(old: str, new: str, reason: str, tmp_path: Path) -> None:
    path = written("labelme_xml", tmp_path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 2 if old == "polygon>" else 1))
    images, problems = read("labelme_xml", tmp_path)
    assert images == {"a.jpg": 1, "b.jpg": 2}
    (problem,) = problems
    assert re.fullmatch(rf"{re.escape(str(path))}: object 0 \((leaf|)\): .*({reason}).*", problem)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (None, r"its mask .*Masks/a_mask_0\.png is not there; restore it or delete the object"),
        (b"", "its mask is no image"),
        (encode_png(np.ones((20, 24), bool))[:-30], "its mask is no image"),
        (encode_png(np.ones((20, 23), bool)), "is 23 x 20, its image 24 x 20 pixels"),
        (encode_png(np.ones((9999, 24), bool)), "is 24 x 9999, its image 24 x 20 pixels"),
        (encode_png(np.zeros((20, 24), bool), "RGBA"), "its mask holds no pixel"),
    ],
)
def test_a_broken_mask_of_labelme_xml_is_one_line(broken: bytes | None, reason: str, tmp_path: Path) -> None:
    path = written("labelme_xml", tmp_path, HOLED, LEAVES[1])
    mask = tmp_path / "Masks" / "a_mask_0.png"
    mask.unlink() if broken is None else mask.write_bytes(broken)
    images, problems = read("labelme_xml", tmp_path)
    assert images == {"a.jpg": 1, "b.jpg": 2}
    (problem,) = problems
    assert re.fullmatch(rf"{re.escape(str(path))}: object 0 \(leaf\): .*{reason}.*", problem)


def test_a_mask_outside_of_the_folder_is_not_opened(tmp_path: Path) -> None:
    Image.fromarray(np.full((20, 24), 255, np.uint8)).save(tmp_path / "secret.png")
    path = written("labelme_xml", tmp_path / "in", HOLED)
    path.write_text(path.read_text().replace("a_mask_0.png", "../../secret.png"))
    images, problems = read("labelme_xml", tmp_path / "in")
    assert images == {"a.jpg": 0, "b.jpg": 2}
    assert len(problems) == 1 and "lies outside of" in problems[0]
