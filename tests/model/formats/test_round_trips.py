"""What is written in one format and read again is what was given, also by way of every other format."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import BadRecord
from model.formats.table import FORMATS
from model.geometry import mask_to_polygons, polygons_to_mask
from model.records import Outline, Polygon, Record
from tests.model.formats.scenes import CLASSES, RECORDS, assert_same, box, put, read, two_parts

ANNOTATIONS = (".json", ".xml", ".txt")
ONE_FILE = [name for name, format_ in FORMATS.items() if format_.is_one_file]
FILE_PER_IMAGE = [name for name, format_ in FORMATS.items() if not format_.is_one_file]


def placed(name: str, records: tuple[Record, ...]) -> list[Record]:
    """The records as the format names their images."""
    return [replace(record, image=FORMATS[name].image_path(record.image)) for record in records]


def test_the_table_says_which_formats_are_one_file() -> None:
    assert ONE_FILE == ["coco", "cvat"]
    assert FILE_PER_IMAGE == ["darwin", "labelme", "labelme_xml", "supervisely", "yolo"]


@pytest.mark.parametrize("name", FORMATS)
def test_annotations_lie_where_the_table_says(name: str, tmp_path: Path) -> None:
    form = FORMATS[name]
    put(name, RECORDS, tmp_path)
    wanted = {form.annotation_path(record.image) for record in RECORDS}
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.suffix in ANNOTATIONS}
    assert found - {"meta.json"} == wanted
    assert len(wanted) == (1 if form.is_one_file else len(RECORDS))


@pytest.mark.parametrize(("first", "second"), list(product(FORMATS, FORMATS)))
def test_records_come_back_by_way_of_two_formats(first: str, second: str, tmp_path: Path) -> None:
    put(first, RECORDS, tmp_path / "first", CLASSES)
    between = read(first, tmp_path / "first")
    assert_same(between, placed(first, RECORDS))
    put(second, between, tmp_path / "second", CLASSES)
    assert_same(read(second, tmp_path / "second"), placed(second, tuple(placed(first, RECORDS))))


@pytest.mark.parametrize("name", FORMATS)
def test_two_objects_of_two_parts_stay_two_objects(name: str, tmp_path: Path) -> None:
    outlines = (Outline("leaf", two_parts(2)), Outline("leaf", two_parts(20)))
    put(name, [Record("a.jpg", (50, 50), outlines)], tmp_path, ("leaf",))
    (record,) = read(name, tmp_path)
    assert [(outline.label, len(outline.parts)) for outline in record.outlines] == [("leaf", 2), ("leaf", 2)]
    for outline, given_one in zip(record.outlines, outlines, strict=True):
        masks = [polygons_to_mask(one.parts, record.size_hw) for one in (outline, given_one)]
        assert np.array_equal(*masks)


@pytest.mark.parametrize("name", FORMATS)
def test_holes_survive_to_the_pixel(name: str, tmp_path: Path) -> None:
    for outline in (RECORDS[0].outlines[2], RECORDS[0].outlines[3]):
        put(name, [Record("a.jpg", (100, 120), (outline,))], tmp_path, CLASSES)
        (record,) = read(name, tmp_path)
        mask = polygons_to_mask(record.outlines[0].parts, (100, 120))
        assert np.array_equal(mask, polygons_to_mask(outline.parts, (100, 120)))
        solid = [Polygon(part.exterior) for part in outline.parts]
        assert not np.array_equal(mask, polygons_to_mask(solid, (100, 120)))


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("coco", "yolo")])
def test_parts_that_touch_stay_apart(name: str, tmp_path: Path) -> None:
    outline = Outline("leaf", (Polygon(box(2, 2, 12, 12)), Polygon(box(12, 2, 20, 12))))
    put(name, [Record("a.jpg", (30, 30), (outline,))], tmp_path, ("leaf",))
    (record,) = read(name, tmp_path)
    assert len(record.outlines) == 1 and len(record.outlines[0].parts) == 2


@pytest.mark.parametrize("name", FORMATS)
def test_parts_that_overlap_leave_no_gap(name: str, tmp_path: Path) -> None:
    parts = (Polygon(box(2, 2, 12, 12)), Polygon(box(8, 4, 20, 10)), Polygon(box(3, 3, 6, 6)))
    put(name, [Record("a.jpg", (30, 30), (Outline("leaf", parts),))], tmp_path, ("leaf",))
    (record,) = read(name, tmp_path)
    got = polygons_to_mask(record.outlines[0].parts, (30, 30))
    assert np.array_equal(got, polygons_to_mask(parts, (30, 30)))


@pytest.mark.parametrize("name", ["coco", "darwin", "labelme"])
def test_scores_come_back(name: str, tmp_path: Path) -> None:
    square = (Polygon(box(1, 1, 9, 9)),)
    outlines = (Outline("leaf", square, 0.25), Outline("leaf", square), Outline("leaf", square, 0.0))
    put(name, [Record("a.jpg", (10, 10), outlines)], tmp_path, ("leaf",))
    (record,) = read(name, tmp_path)
    assert [outline.score for outline in record.outlines] == [0.25, None, 0.0]


@pytest.mark.parametrize("name", FILE_PER_IMAGE)
def test_files_are_added_image_by_image(name: str, tmp_path: Path) -> None:
    for record in RECORDS:
        put(name, [record], tmp_path, CLASSES)
    put(name, [RECORDS[0]], tmp_path, CLASSES)  # again: in place of the first
    assert_same(read(name, tmp_path), placed(name, RECORDS))


@pytest.mark.parametrize("name", ONE_FILE)
def test_one_file_is_replaced(name: str, tmp_path: Path) -> None:
    put(name, RECORDS, tmp_path, CLASSES)
    put(name, RECORDS[1:], tmp_path, CLASSES)
    assert_same(read(name, tmp_path), RECORDS[1:])


@pytest.mark.parametrize("name", FORMATS)
def test_one_file_is_read_like_its_folder(name: str, tmp_path: Path) -> None:
    put(name, [RECORDS[2]], tmp_path, CLASSES)
    (path,) = [path for path in tmp_path.rglob("*.*") if path.suffix in ANNOTATIONS and path.name != "meta.json"]
    (record,) = read(name, path)
    assert record.image in ("b.jpg", "img/b.jpg", "images/b.jpg")
    assert len(record.outlines) == 1


@pytest.mark.parametrize("name", ["darwin", "labelme", "labelme_xml"])
def test_an_image_does_not_overwrite_its_namesake(name: str, tmp_path: Path) -> None:
    first = Record("sub/a.jpg", (10, 10), (Outline("leaf", (Polygon(box(1, 1, 9, 9)),)),))
    put(name, [first], tmp_path, ("leaf",))
    with pytest.raises(BadRecord, match=r"belongs to a\.jpg, not to a\.png; rename"):
        put(name, [replace(first, image="sub/a.png", outlines=())], tmp_path, ("leaf",))
    assert_same(read(name, tmp_path), [first])


@pytest.mark.parametrize("name", FORMATS)
def test_folders_may_have_the_names_that_tools_give_to_theirs(name: str, tmp_path: Path) -> None:
    folders = ("", "x/", "field/images/", "labels/", "field/labels/", "ann/", "img/", "Masks/", "Annotations/")
    square = (Outline("leaf", (Polygon(box(1, 1, 9, 9)),)),)
    records = [Record(f"{folder}{number}.jpg", (10, 10), square) for number, folder in enumerate(folders)]
    put(name, records, tmp_path, ("leaf",))
    assert_same(read(name, tmp_path), placed(name, tuple(records)))


@pytest.mark.parametrize("name", FORMATS)
def test_an_unknown_label_is_not_written(name: str, tmp_path: Path) -> None:
    record = Record("a.jpg", (10, 10), (Outline("root", (Polygon(box(1, 1, 9, 9)),)),))
    with pytest.raises(BadRecord, match=r"object of a\.jpg is a 'root', wanted one of \('leaf',\)"):
        put(name, [record], tmp_path, ("leaf",))


@pytest.mark.parametrize("image", ["../a.jpg", "/a.jpg", "C:\\a.jpg", "a/../../b.jpg", "", "./a.jpg", "a//b.jpg"])
@pytest.mark.parametrize("name", FORMATS)
def test_nothing_is_written_outside_of_the_folder(name: str, image: str, tmp_path: Path) -> None:
    with pytest.raises(BadRecord, match="image"):
        put(name, [Record(image, (10, 10), ())], tmp_path / "out", ())
    written = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert written in ([], ["meta.json"], ["data.yaml"])


@settings(max_examples=15, deadline=None)
@given(name=st.sampled_from(sorted(FORMATS)), seed=st.integers(0, 2**32 - 1), density=st.sampled_from((0.05, 0.3, 0.7)))
def test_any_mask_survives(name: str, seed: int, density: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    mask = np.random.default_rng(seed).random((9, 13)) < density
    parts = mask_to_polygons(mask, 0)
    if parts:
        folder = tmp_path_factory.mktemp(name)
        put(name, [Record("a.jpg", (9, 13), (Outline("leaf", parts),))], folder, ("leaf",))
        (record,) = read(name, folder)
        (outline,) = record.outlines
        assert np.array_equal(polygons_to_mask(outline.parts, (9, 13)), mask)
        assert len(outline.parts) == len(parts)
