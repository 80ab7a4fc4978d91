import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as pycoco_mask

from model.errors import BadRecord
from model.formats import coco
from model.geometry import polygons_to_mask
from model.records import Outline, Polygon, Record

SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "data"
SQUARE = [1, 1, 4, 1, 4, 4, 1, 4]
RING_MASK = np.array([[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 1, 0, 1, 0], [0, 1, 1, 1, 0]], np.uint8)


def shared(path):
    if not (SHARED / path).exists():
        pytest.skip(f"shared data {path} is not here")
    return SHARED / path


def compressed(mask):
    rle = pycoco_mask.encode(np.asfortranarray(mask))
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


@pytest.fixture
def coco_file(tmp_path):
    """Write a COCO file with one 5 x 4 image and the given annotations."""

    def write(*annotations, **changes):
        content = {
            "images": [{"id": 7, "file_name": "a.jpg", "width": 5, "height": 4}],
            "categories": [{"id": 3, "name": "leaf"}, {"id": 1, "name": "stem"}],
            "annotations": [
                {"id": 11 + index, "image_id": 7, "category_id": 3, **annotation}
                for index, annotation in enumerate(annotations)
            ],
        }
        path = tmp_path / "coco.json"
        path.write_text(json.dumps({**content, **changes}))
        return path

    return write


def masks_of(record):
    return [polygons_to_mask(outline.parts, record.size_hw) for outline in record.outlines]


def test_polygons_of_one_annotation_are_parts_of_one_object(coco_file):
    (record,) = coco.read(coco_file({"segmentation": [SQUARE, [0, 0, 1, 0, 1, 1]], "iscrowd": 0}))
    assert (record.image, record.size_hw) == ("a.jpg", (4, 5))
    (outline,) = record.outlines
    assert outline.label == "leaf"
    assert outline.parts[0].exterior.tolist() == [[1, 1], [4, 1], [4, 4], [1, 4]]
    assert len(outline.parts) == 2


@pytest.mark.parametrize(
    "rle", [compressed(RING_MASK), {"size": [4, 5], "counts": [5, 3, 1, 1, 1, 1, 1, 3, 4]}], ids=["text", "list"]
)
def test_a_mask_is_read_with_its_hole(coco_file, rle):
    (record,) = coco.read(coco_file({"segmentation": rle}))
    (outline,) = record.outlines
    assert len(outline.parts) == 1 and len(outline.parts[0].holes) == 1
    assert np.array_equal(masks_of(record)[0], RING_MASK)


def test_our_decoder_agrees_with_pycocotools(coco_file):
    random = np.random.default_rng(0)
    for density in (0.02, 0.5, 0.98):
        mask = (random.random((37, 53)) < density).astype(np.uint8)
        mask[0, 0] = mask[5:30, 7:20] = 1
        image = {"id": 7, "file_name": "a.jpg", "width": 53, "height": 37}
        (record,) = coco.read(coco_file({"segmentation": compressed(mask)}, images=[image]))
        assert np.array_equal(masks_of(record)[0], mask)


def test_one_polygon_may_lack_the_list_around_it(coco_file):
    (record,) = coco.read(coco_file({"segmentation": SQUARE}))
    (outline,) = record.outlines
    assert outline.parts[0].exterior.tolist() == [[1, 1], [4, 1], [4, 4], [1, 4]]


def test_numbers_of_a_polygon_may_sum_up_to_the_pixels_of_its_image(coco_file):
    (record,) = coco.read(coco_file({"segmentation": [[1, 1, 4, 1, 5, 4, 1, 3]]}))
    assert len(record.outlines) == 1 and record.unread == ()


def test_the_first_pixel_may_be_an_object(coco_file):
    (record,) = coco.read(coco_file({"segmentation": [[0, 0, 1, 0, 1, 1, 0, 1]]}))
    assert masks_of(record)[0].sum() == 1 and record.unread == ()


def test_an_image_without_annotations_becomes_an_empty_record(coco_file):
    (record,) = coco.read(coco_file())
    assert record.outlines == ()


def test_class_names_stand_in_category_order(coco_file):
    assert coco.class_names(coco_file()) == ("leaf", "stem")


def test_a_heading_over_the_categories_is_no_class_unless_an_object_has_it(coco_file):
    """https://github.com/roboflow/rf-detr/pull/1303: Roboflow's first category is the name of the project."""
    categories = [
        {"id": 0, "name": "plants", "supercategory": "none"},
        {"id": 1, "name": "leaf", "supercategory": "plants"},
        {"id": 2, "name": "stem", "supercategory": "plants"},
        {"id": 4, "name": "pot", "supercategory": "pot"},
        {"id": 5, "name": "soil", "supercategory": ["ground"]},
    ]
    heading, stem = ({"segmentation": [SQUARE], "category_id": number} for number in (0, "2"))
    assert coco.class_names(coco_file(stem, categories=categories)) == ("leaf", "stem", "pot", "soil")
    assert coco.class_names(coco_file(stem, heading, categories=categories)) == (
        "plants",
        "leaf",
        "stem",
        "pot",
        "soil",
    )


@pytest.mark.parametrize("name", ["_background_", "__background__", "Background", "BG"])
def test_the_background_is_no_class_unless_an_object_has_it(coco_file, name):
    """LabelMe's labelme2coco.py writes it as the first category, which MMDetection's users write by hand."""
    categories = [{"id": 0, "name": name}, {"id": 3, "name": "leaf"}]
    leaf, ground = {"segmentation": [SQUARE]}, {"segmentation": [SQUARE], "category_id": 0}
    assert coco.class_names(coco_file(leaf, categories=categories)) == ("leaf",)
    assert coco.class_names(coco_file(leaf, ground, categories=categories)) == (name, "leaf")


def test_a_category_that_stands_twice_in_the_file_is_one(coco_file):
    path = coco_file({"segmentation": [SQUARE]}, categories=[{"id": 3, "name": "leaf"}, {"id": 3, "name": "leaf "}])
    (record,) = coco.read(path)
    assert [outline.label for outline in record.outlines] == ["leaf"] and coco.class_names(path) == ("leaf",)


def test_crowds_are_left_out_with_a_warning(coco_file, caplog):
    path = coco_file({"segmentation": [SQUARE], "iscrowd": 1}, {"segmentation": compressed(RING_MASK), "iscrowd": 1})
    with caplog.at_level(logging.WARNING):
        (record,) = coco.read(path)
    assert record.outlines == ()
    assert "left out 2 annotations with iscrowd=1" in caplog.text


def test_crowd_masks_are_read_on_request(coco_file):
    path = coco_file({"segmentation": [SQUARE], "iscrowd": 1}, {"segmentation": compressed(RING_MASK), "iscrowd": 1})
    (record,) = coco.read(path, iscrowd_masks=True)
    assert len(record.outlines) == 1 and np.array_equal(masks_of(record)[0], RING_MASK)


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        ({"segmentation": [[1, 1, 2, 2]]}, "at least 3 points"),
        ({"segmentation": [[1, 1, 2, 2, 3]]}, "at least 3 points"),
        (
            {"segmentation": [[1, 1, 2, 2, 3, 3, 4]]},
            r"a polygon is a list \[x, y, x, y, ...\], got",
        ),
        ({"segmentation": [[SQUARE]]}, r"a polygon is a list"),
        ({"segmentation": [[1, 1], [4, 1], [4, 4]]}, r"its points are pairs \[\[x, y\], ...\], wanted .* as one list"),
        ({"segmentation": [[6, 1, 1, 1, 1, 10]]}, "it has run lengths in place of a polygon"),
        (
            {"segmentation": [[0.2, 0.2, 1, 0.2, 1, 0.8], [0, 0, 0.1, 0, 0.1, 0.1]]},
            "its points are shares of the image, 0..1, wanted pixels; multiply them by width and height",
        ),
        ({"segmentation": [6, 1, 1, 1, 1, 10]}, "it has run lengths in place of a polygon"),
        ({"segmentation": [[1, 1, "x", 2, 3, 3]]}, "could not convert"),
        ({"segmentation": [[1, 1, float("nan"), 2, 3, 3]]}, "not a finite number"),
        ({"segmentation": []}, "it has no outline"),
        ({"segmentation": None}, "it has no outline"),
        ({}, "it has no outline"),
        ({"segmentation": [SQUARE], "category_id": 2}, "its category_id 2 stands for nothing in the file; correct"),
        ({"segmentation": {"size": [5, 4], "counts": [20]}}, r"size \[5, 4\], its image \[4, 5\]"),
        ({"segmentation": {"size": [4, 5], "counts": [19]}}, "covers 19 pixels, its image has 20"),
        ({"segmentation": {"size": [4, 5], "counts": [20]}}, "holds no pixel"),
        ({"segmentation": {"size": [4, 5], "counts": [25, -5]}}, "covers 20 pixels|export the file again"),
        ({"segmentation": {"size": [4, 5], "counts": compressed(RING_MASK)["counts"][:-1]}}, "covers 16 pixels"),
        ({"segmentation": {"size": [4, 5], "counts": "5P"}}, "is cut off"),
        ({"segmentation": {"size": [4, 5], "counts": "5 3"}}, "does not belong there"),
        # https://github.com/cocodataset/cocoapi/issues/70
        (
            {"segmentation": {"size": [4, 5], "counts": str(b"5\\")}},
            r"bytes as Python shows them, b'\.\.\.'; write .*decode",
        ),
        ({"segmentation": {"size": [4, 5], "counts": "P" * 10**6 + "0"}}, "a number larger than any image"),
        ({"segmentation": {"counts": [20]}}, "'size' is missing"),
        ({"segmentation": [compressed(RING_MASK)]}, r"its mask stands in a list, .* wanted \{'counts': .*\} itself"),
    ],
)
def test_a_broken_annotation_is_named(coco_file, annotation, reason):
    (record,) = coco.read(coco_file({"segmentation": [SQUARE]}, annotation))
    assert len(record.outlines) == 1
    (line,) = record.unread
    assert re.match(rf"annotation 12: .*({reason})", line)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"images": [{"id": 7, "file_name": "a.jpg", "width": 5}]},
            "the size of its image is not in the file",
        ),
        ({"images": None}, "got other JSON"),
        ({"categories": None}, "categories:"),
        ({"categories": [{"id": 3}]}, "categories: 'name' is missing"),
        (
            {"categories": [{"id": 3, "name": "leaf"}, {"id": 3, "name": "stem"}]},
            "categories: id 3 stands for 'leaf' and 'stem'; give each category an id of its own",
        ),
        ({"annotations": "x"}, "got other JSON"),
    ],
)
def test_a_broken_file_is_named(coco_file, changes, reason):
    with pytest.raises(BadRecord, match=rf"coco\.json: {reason}|coco\.json: .*{reason}"):
        coco.read(coco_file(**changes))


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"segmentation": [], "bbox": [1, 1, 3, 3]}, "annotation 12: it has no outline"),
        ({"segmentation": [[1, 1, 2, 2]]}, "annotation 12: an outline needs at least 3 points"),
        ({"segmentation": [SQUARE], "category_id": 2}, "annotation 12: its category_id 2"),
    ],
)
def test_one_broken_object_does_not_cost_the_file(coco_file, caplog, broken, reason):
    size = {"width": 5, "height": 4}
    images = [{"id": 7, "file_name": "a.jpg"} | size, {"id": 8, "file_name": "b.jpg"} | size]
    path = coco_file({"segmentation": [SQUARE]}, broken, {"segmentation": [SQUARE], "image_id": 8}, images=images)
    with caplog.at_level(logging.WARNING):
        whole, other = coco.read(path)
    assert (len(whole.outlines), len(other.outlines), other.unread) == (1, 1, ())
    assert len(whole.unread) == 1 and whole.unread[0].startswith(reason)
    assert not caplog.records, "it is told with its record"


@pytest.mark.parametrize("few", [[3, 3, 4, 4], [3, 3], [], [3, 3, 4], [3, 3, 4, 4, 5], [3, 3, 4, 4, 3, 3]])
def test_a_part_without_area_costs_only_itself(coco_file, caplog, few):
    path = coco_file({"segmentation": [SQUARE, few]}, {"segmentation": [few, [0, 0, 3, 0, 3, 3, 0, 3]]})
    with caplog.at_level(logging.WARNING):
        (record,) = coco.read(path)
    assert [mask.sum() for mask in masks_of(record)] == [9, 9] and record.unread == ()
    lost = "1 of its 2 parts left out: fewer than 3 points cover nothing; complete or delete them"
    assert [r.getMessage() for r in caplog.records] == [f"{path}: annotation {n}: {lost}" for n in (11, 12)]


def test_an_annotation_of_no_image_is_told(coco_file, caplog):
    with caplog.at_level(logging.WARNING):
        (record,) = coco.read(coco_file({"segmentation": [SQUARE]}, {"segmentation": [SQUARE], "image_id": 8}))
    assert len(record.outlines) == 1
    assert "annotation 12: its image_id 8 stands for nothing in the file" in caplog.text


@pytest.mark.parametrize("ids", [{"image_id": "7"}, {"category_id": "3"}, {"image_id": 7.0, "category_id": " 3"}])
def test_numbers_that_are_written_as_text_are_the_same_ids(coco_file, ids):
    """https://github.com/pylabel-project/pylabel/issues/46, https://github.com/cvat-ai/cvat/issues/298"""
    (record,) = coco.read(coco_file({"segmentation": [SQUARE], "iscrowd": "0", **ids}))
    assert [outline.label for outline in record.outlines] == ["leaf"] and record.unread == ()


def test_an_image_id_that_comes_twice_stands_for_the_first(coco_file, caplog):
    image = {"id": 7, "width": 5, "height": 4}
    with caplog.at_level(logging.WARNING):
        records = coco.read(coco_file(images=[image | {"file_name": "a.jpg"}, image | {"file_name": "b.jpg"}]))
    assert [record.image for record in records] == ["a.jpg"]
    assert "image 7: its id stands for another image already" in caplog.text


def test_images_are_found_in_their_folder_and_tell_the_size(coco_file, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (5, 4)).save(photos / "a.jpg")
    image = {"id": 7, "file_name": "/data/upload/1/0a1b2c3d-a.jpg", "width": None, "height": None}
    path = coco_file({"segmentation": [SQUARE]}, images=[image])
    (record,) = coco.read(path, images=photos)
    assert (record.image, record.size_hw, len(record.outlines)) == ("a.jpg", (4, 5), 1)
    with pytest.raises(BadRecord, match="the size of its image is not in the file"):
        coco.read(path)


def test_a_file_that_is_not_json_is_named(tmp_path):
    (tmp_path / "x.json").write_text("<xml>")
    with pytest.raises(BadRecord, match=r"wanted JSON in .*x\.json"):
        coco.read(tmp_path / "x.json")
    with pytest.raises(BadRecord, match=r"No such file .*y\.json"):
        coco.read(tmp_path / "y.json")


def test_records_come_back(tmp_path):
    square, dot = np.array(SQUARE, float).reshape(-1, 2), np.array([[0, 0], [1.25, 0], [1.25, 1], [0, 1]])
    outlines = (Outline("stem", (Polygon(square), Polygon(dot))), Outline("leaf", (Polygon(dot * 2),)))
    records = (Record("a.jpg", (4, 5), outlines), Record("empty.jpg", (9, 8), ()))
    coco.write(records, tmp_path / "out.json", ("leaf", "stem"))
    back = coco.read(tmp_path / "out.json")
    assert [(record.image, record.size_hw) for record in back] == [("a.jpg", (4, 5)), ("empty.jpg", (9, 8))]
    assert [outline.label for outline in back[0].outlines] == ["stem", "leaf"]
    for outline, given in zip(back[0].outlines, outlines, strict=True):
        assert [part.exterior.tolist() for part in outline.parts] == [part.exterior.tolist() for part in given.parts]
    assert coco.class_names(tmp_path / "out.json") == ("leaf", "stem")


def test_a_hole_comes_back(tmp_path, coco_file):
    records = coco.read(coco_file({"segmentation": compressed(RING_MASK)}))
    coco.write(records, tmp_path / "out.json", ("leaf",))
    (annotation,) = json.loads((tmp_path / "out.json").read_text())["annotations"]
    assert (annotation["area"], annotation["bbox"], annotation["iscrowd"]) == (8, [1, 1, 3, 3], 0)
    assert np.array_equal(pycoco_mask.decode(annotation["segmentation"]), RING_MASK)
    assert np.array_equal(masks_of(coco.read(tmp_path / "out.json")[0])[0], RING_MASK)


def test_an_unknown_label_is_not_written(tmp_path):
    record = Record("a.jpg", (4, 5), (Outline("root", (Polygon(np.array(SQUARE, float).reshape(-1, 2)),)),))
    with pytest.raises(BadRecord, match=r"object of a\.jpg is a 'root', wanted one of"):
        coco.write([record], tmp_path / "out.json", ("leaf",))
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    ("path", "images", "objects", "classes"),
    [
        ("smoke_coffee/annotations.json", 16, 16, 5),
        ("smoke_coffee/annotations_lesions.json", 16, 60, 4),
        ("smoke_nuclei/annotations.json", 12, 274, 1),
    ],
)
def test_real_annotations_keep_their_areas(path, images, objects, classes):
    records = coco.read(shared(path))
    assert len(records) == images
    assert len(coco.class_names(shared(path))) == classes
    areas = [mask.sum() for record in records for mask in masks_of(record)]
    stored = {row["id"]: row["area"] for row in json.loads(shared(path).read_text())["annotations"]}
    assert len(areas) == objects
    relative = np.array(sorted(areas)) / np.array(sorted(stored.values()))
    assert np.abs(relative - 1).max() < 0.1


def test_nuclei_survive_a_round_trip(tmp_path):
    records = coco.read(shared("smoke_nuclei/annotations.json"))[:4]
    coco.write(records, tmp_path / "out.json", ("nucleus",))
    for record, back in zip(records, coco.read(tmp_path / "out.json"), strict=True):
        for mask, mask_back in zip(masks_of(record), masks_of(back), strict=True):
            assert np.array_equal(mask, mask_back)


def test_a_file_made_by_datumaro_is_read():
    path = shared("formats/coco_instances_made_with_datumaro_openvino_1.13.12/annotations/instances_default.json")
    assert sum(len(record.outlines) for record in coco.read(path)) == 8
    assert sum(len(record.outlines) for record in coco.read(path, iscrowd_masks=True)) == 16
