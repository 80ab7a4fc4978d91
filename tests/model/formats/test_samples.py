"""Real files of the tools, read where they lie: every object is found, and nothing is told but what is expected."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.formats import coco
from model.formats.table import FORMATS
from model.geometry import polygons_to_mask
from model.records import Record
from tests.model.formats.scenes import iou, read
from tests.shared import shared

LEAVES_AND_NUCLEI = {"0051.jpg": 3, "0070.jpg": 5, "45c3bdef1819.jpg": 8}
MADE = {
    ("labelme", "labelme_made_with_labelme_5.4.1"): {"0051.jpg": 2, "0070.jpg": 2, "0072.jpg": 2},
    ("labelme_xml", "label_me_made_with_datumaro_cvat-ai_fork"): LEAVES_AND_NUCLEI,
    ("labelme_xml", "label_me_made_with_datumaro_openvino_1.13.12"): LEAVES_AND_NUCLEI,
    ("cvat", "cvat_made_with_datumaro_openvino_1.13.12"): LEAVES_AND_NUCLEI,
    ("cvat", "cvat_made_with_datumaro_cvat-ai_fork"): LEAVES_AND_NUCLEI | {"45c3bdef1819.jpg": 0},  # masks: not there
    ("supervisely", "supervisely_made_with_sdk_6.74.51"): LEAVES_AND_NUCLEI,
    ("labelme_xml", "labelme3_xml_fixture"): {"img1.png": 7},
    ("darwin", "darwin_1.x_fixtures/coco_0.json"): {"0.png": 1},
    ("darwin", "darwin_1.x_fixtures/complex_polygons_0.json"): {"0.png": 1},
    ("darwin", "darwin_1.x_fixtures/bb_0.json"): {"0.png": 1},
    ("darwin", "darwin_1.x_fixtures/ml_0.json"): {"0.png": 0},
    ("darwin", "darwin_1.x_fixtures/sl_0.json"): {"0.png": 0},
    ("darwin", "darwin_2.0_fixtures/complex_polygons_0.json"): {"0.png": 1},
    ("darwin", "darwin_2.0_fixtures/annotation_with_properties.json"): {"221b-1.jpeg": 3},
    ("darwin", "darwin_2.0_fixtures/annotation_without_properties.json"): {"221b-1.jpeg": 3},
    ("darwin", "darwin_2.0_fixtures/semantic_mask_221b-2.json"): {"221b-2.jpeg": 1},
    ("darwin", "darwin_2.0_fixtures/bb_0.json"): {"0.png": 1},
    ("darwin", "darwin_2.0_fixtures/bboxes_and_polys.json"): {"test2.png": 5},
    ("darwin", "darwin_2.0_fixtures/convert_pairs/cvat/from/000000021295.json"): {"000000021295.jpg": 2},
    ("cvat", "darwin_2.0_fixtures/convert_pairs/cvat/to/output.xml"): {"000000021295.jpg": 2},
}
WITH_OTHERS = {
    ("cvat", "cvat_docs_sample.xml"): (2, ["<polyline> is no object", "<points> is no object"]),
    ("cvat", "cvat_images_fixture/train.xml"): (
        1,
        ["<polyline> is no", "<skeleton> is no", "wanted a label, got ''", "<points> is no", "<skeleton> is no"],
    ),
    ("cvat", "cvat_images_fixture/openvino_export_task/train.xml"): (
        1,
        ["<polyline> is no object", "wanted a label, got ''", "<points> is no object"],
    ),
    ("cvat", "cvat_images_fixture/openvino_export_project/annotations.xml"): (
        6,
        ["<polyline> is no object", "<points> is no object"] * 3,
    ),
    ("darwin", "darwin_2.0_fixtures/image_1-tag_skeleton_mask_line.json"): (1, ["a line is no", "a skeleton is no"]),
    ("darwin", "darwin_2.0_fixtures/image_new_basic_annotations_1.json"): (4, ["a keypoint is no", "a line is no"]),
    ("darwin", "darwin_2.0_fixtures/convert_pairs/coco/from"): (0, ["wanted the name of its image, got ''"]),
    ("coco", "darwin_2.0_fixtures/convert_pairs/coco/to/output.json"): (
        0,
        ["wanted the name of its image, got ''", "left out 1 annotations with iscrowd=1"],
    ),
    ("coco", "coco_fixtures/coco_instances"): (1, ["it has no outline", "left out 1 annotations with iscrowd=1"]),
    ("coco", "coco_instances_made_with_datumaro_openvino_1.13.12"): (8, ["left out 8 annotations with iscrowd=1"]),
    ("coco", "coco_instances_made_with_datumaro_cvat-ai_fork"): (8, ["left out 8 annotations with iscrowd=1"]),
}


def by_name(records: list[Record]) -> dict[str, Record]:
    return {Path(record.image).name: record for record in records}


@pytest.mark.parametrize(("name", "sample"), MADE, ids=lambda value: value)
def test_a_real_file_is_read_without_a_problem(name: str, sample: str, recwarn: pytest.WarningsRecorder) -> None:
    records = read(name, shared("data", "formats", sample))
    counts = {Path(record.image).name: len(record.outlines) for record in records}
    assert counts == MADE[name, sample]
    assert not recwarn.list


@pytest.mark.parametrize(("name", "sample"), WITH_OTHERS, ids=lambda value: value)
def test_what_is_no_object_in_a_real_file_is_told(name: str, sample: str) -> None:
    objects, reasons = WITH_OTHERS[name, sample]
    problems: list[str] = []
    records = list(FORMATS[name].read(shared("data", "formats", sample), problems.append))
    assert len(problems) == len(reasons)
    assert all(reason in problem for reason, problem in zip(reasons, problems, strict=True))
    assert sum(len(record.outlines) for record in records) == objects


@pytest.mark.parametrize(("name", "sample"), [key for key in MADE if "_made_with_" in key[1]], ids=lambda value: value)
def test_images_are_found_from_the_folder(name: str, sample: str) -> None:
    folder = shared("data", "formats", sample)
    for record in read(name, folder):
        with Image.open(folder / record.image) as image:
            assert (image.height, image.width) == record.size_hw


def test_lesions_of_a_labelme_leaf_are_parts_of_one_object() -> None:
    records = by_name(read("labelme", shared("data", "formats", "labelme_made_with_labelme_5.4.1")))
    parts = {name: [(o.label, len(o.parts)) for o in record.outlines] for name, record in records.items()}
    assert parts["0051.jpg"] == [("leaf_miner", 1), ("lesions_miner", 2)]
    assert parts["0072.jpg"] == [("leaf_miner", 1), ("lesions_miner", 6)]


def test_the_tools_agree_about_the_same_objects() -> None:
    """The same leaves and nuclei, made by four tools: whichever file is read, the masks are the same."""
    path = shared("data", "formats", "coco_instances_made_with_datumaro_openvino_1.13.12")
    wanted = by_name(list(coco.read_records(path, print, iscrowd_masks=True)))
    for name, sample in [key for key in MADE if MADE[key] == LEAVES_AND_NUCLEI and key[0] != "supervisely"]:
        for image, record in by_name(read(name, shared("data", "formats", sample))).items():
            assert Counter(o.label for o in record.outlines) == Counter(o.label for o in wanted[image].outlines)
            for outline in record.outlines:
                same = [o for o in wanted[image].outlines if o.label == outline.label]
                assert max(iou(outline, other, record.size_hw) for other in same) > 0.98
                assert len(outline.parts) == 1


def test_a_supervisely_hole_is_no_leaf() -> None:
    records = by_name(read("supervisely", shared("data", "formats", "supervisely_made_with_sdk_6.74.51")))
    leaf, lesion = records["0051.jpg"].outlines[:2]
    masks = [polygons_to_mask(outline.parts, records["0051.jpg"].size_hw) for outline in (leaf, lesion)]
    assert len(leaf.parts[0].holes) == 1
    assert (masks[0] & masks[1]).sum() < 0.2 * masks[1].sum()


def test_a_darwin_mask_covers_the_pixels_of_its_layer() -> None:
    (record,) = read("darwin", shared("data", "formats", "darwin_2.0_fixtures", "semantic_mask_221b-2.json"))
    mask = polygons_to_mask(record.outlines[0].parts, record.size_hw)
    assert mask.ravel()[:192_527].sum() == 0 and mask.ravel()[192_527]


def test_parts_of_the_labelme_fixture_with_other_labels_stay_objects() -> None:
    (record,) = read("labelme_xml", shared("data", "formats", "labelme3_xml_fixture"))
    assert [o.label for o in record.outlines] == ["window", "license plate", "o1", "q1", "b1", "m1", "hg"]
    plate = polygons_to_mask(record.outlines[1].parts, record.size_hw)
    assert np.flatnonzero(plate.any(0))[[0, -1]].tolist() == [58, 62]
