"""Regions and instances, both ways: predictions.py and annotations.py together."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from backend.errors import BadLabelConfig
from backend.label_studio.annotations import annotation_digest, choose_annotation, read_outlines
from backend.label_studio.labels import parse_label_config
from backend.label_studio.predictions import instances_to_regions, outlines_to_regions
from model.geometry import mask_to_polygons, polygons_to_mask
from model.instances import Instances
from model.records import Outline
from tests.backend.configs import ALL_SHAPES, POLYGONS

SIZE = (120, 160)


def ring_and_island() -> np.ndarray:
    """An object with a hole, and a second part of it apart from the first."""
    mask = np.zeros(SIZE, np.uint8)
    cv2.circle(mask, (50, 60), 40, 1, -1)
    cv2.circle(mask, (50, 60), 15, 0, -1)
    cv2.rectangle(mask, (110, 30), (145, 90), 1, -1)
    return mask.astype(bool)


def instances(*masks: np.ndarray, labels: list[int]) -> Instances:
    boxes = []
    for mask in masks:
        ys, xs = np.where(mask)
        boxes.append((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1))
    n = len(masks)
    scores = np.linspace(0.9, 0.6, n, dtype=np.float32)
    return Instances(
        np.array(boxes, np.float32), scores, np.array(labels), np.eye(3, dtype=np.float32)[labels], np.stack(masks)
    )


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("label", ["leaf", "soil"])
def test_an_object_with_a_hole_and_two_parts_stays_one_object(label: str) -> None:
    config = parse_label_config(ALL_SHAPES)
    mask = ring_and_island()
    regions = instances_to_regions(instances(mask, labels=[0]), (label, "x", "y"), config)
    (outline,), problems = read_outlines({"id": 1, "result": regions}, config, SIZE)
    assert problems == ()
    assert outline.label == label
    assert iou(polygons_to_mask(outline.parts, SIZE), mask) >= 0.95


def test_parts_are_tied_and_carry_percent_scores_and_size() -> None:
    config = parse_label_config(POLYGONS)
    first, second = instances_to_regions(instances(ring_and_island(), labels=[0]), ("leaf", "x", "y"), config)
    assert "parentID" not in first and second["parentID"] == first["id"] != second["id"]
    assert (first["original_width"], first["original_height"]) == (160, 120)
    assert first["from_name"] == "shape" and first["to_name"] == "image" and first["type"] == "polygonlabels"
    assert first["score"] == 0.9 and first["value"]["polygonlabels"] == ["leaf"]
    assert all(0 <= c <= 100 for region in (first, second) for point in region["value"]["points"] for c in point)


def test_a_rectangle_control_gets_the_box() -> None:
    mask = np.zeros(SIZE, bool)
    mask[30:90, 40:120] = True
    (region,) = instances_to_regions(instances(mask, labels=[0]), ("pot", "x", "y"), parse_label_config(ALL_SHAPES))
    assert region["value"] == {"x": 25, "y": 25, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["pot"]}


def test_a_turned_rectangle_is_read_as_drawn() -> None:
    value = {"x": 50, "y": 25, "width": 25, "height": 25, "rotation": 90, "rectanglelabels": ["pot"]}
    region = {"id": "r", "type": "rectanglelabels", "from_name": "box", "value": value}
    (outline,), _ = read_outlines({"id": 1, "result": [region]}, parse_label_config(ALL_SHAPES), (100, 100))
    expected = np.zeros((100, 100), bool)
    expected[25:50, 25:50] = True  # turned clockwise about its own top left corner at (50, 25)
    assert iou(polygons_to_mask(outline.parts, (100, 100)), expected) > 0.99


def test_classes_map_by_predicted_values_and_unknown_ones_are_left_out() -> None:
    mask = ring_and_island()
    found = instances(mask, mask, labels=[0, 1])
    regions = instances_to_regions(found, ("lesion", "car", "y"), parse_label_config(POLYGONS))
    assert {region["value"]["polygonlabels"][0] for region in regions} == {"spot"}


def test_a_control_s_own_threshold_wins_over_the_project_s() -> None:
    mask = ring_and_island()
    found = replace(instances(mask, mask, labels=[0, 1]), softmaxes=np.array([[0.4, 0.3, 0], [0.1, 0.4, 0]]))
    xml = ALL_SHAPES.replace('name="brush"', 'name="brush" model_score_threshold="0.2"')
    for config, labels in ((ALL_SHAPES, {"leaf"}), (xml, {"leaf", "soil"})):
        regions = instances_to_regions(found, ("leaf", "soil", "y"), parse_label_config(config), score_threshold=0.6)
        assert {region["value"][region["type"]][0] for region in regions} == labels


def test_the_truth_of_a_record_becomes_regions_and_comes_back() -> None:
    config, mask = parse_label_config(POLYGONS), ring_and_island()
    regions = outlines_to_regions([Outline("spot", mask_to_polygons(mask, 0))], SIZE, config)
    (outline,), _ = read_outlines({"id": 1, "result": regions}, config, SIZE)
    assert outline.label == "spot"
    assert iou(polygons_to_mask(outline.parts, SIZE), mask) >= 0.99
    with pytest.raises(BadLabelConfig, match="label 'moon' is not one of leaf, spot"):
        outlines_to_regions([Outline("moon", mask_to_polygons(mask))], SIZE, config)


def test_the_truth_becomes_brush_regions_where_the_label_has_no_polygons() -> None:
    config, mask = parse_label_config(ALL_SHAPES), ring_and_island()
    regions = outlines_to_regions([Outline("soil", mask_to_polygons(mask, 0))], SIZE, config)
    assert {region["type"] for region in regions} == {"brushlabels"}
    (outline,), _ = read_outlines({"id": 1, "result": regions}, config, SIZE)
    assert (polygons_to_mask(outline.parts, SIZE) == mask).all()


def region(identity: str | None, label: str, **more: object) -> dict:
    square = [[10, 10], [60, 10], [60, 60], [10, 60]]
    value = {"points": square, "polygonlabels": [label]}
    named = {} if identity is None else {"id": identity}
    return {**named, "type": "polygonlabels", "from_name": "shape", "value": value, **more}


def test_regions_without_an_id_are_objects_of_their_own() -> None:
    result = [region(None, "leaf"), region(None, "spot"), region(None, "leaf")]
    outlines, problems = read_outlines({"id": 1, "result": result}, parse_label_config(POLYGONS), SIZE)
    assert [(o.label, len(o.parts)) for o in outlines] == [("leaf", 1), ("spot", 1), ("leaf", 1)] and not problems


def test_a_region_nested_below_one_of_another_label_is_an_object_of_its_own() -> None:
    result = [
        region("a", "leaf"),
        region("b", "leaf", parentID="a"),
        region("c", "spot", parentID="a"),
        region("d", "spot", parentID="c"),
    ]
    outlines, problems = read_outlines({"id": 1, "result": result}, parse_label_config(POLYGONS), SIZE)
    assert [(o.label, len(o.parts)) for o in outlines] == [("leaf", 2), ("spot", 2)] and not problems


def test_scores_are_read_of_predictions_only() -> None:
    result = [region("a", "leaf", score=0.7)]
    for with_scores, score in ((True, 0.7), (False, None)):
        (outline,), _ = read_outlines(
            {"id": 1, "result": result}, parse_label_config(POLYGONS), SIZE, with_scores=with_scores
        )
        assert outline.score == score


def test_unusable_regions_are_named_one_line_each_and_the_others_stay() -> None:
    def polygon(name: str, points: list, label: str = "leaf") -> dict:
        value = {"points": points, "polygonlabels": [label]}
        return {"id": name, "type": "polygonlabels", "from_name": "shape", "value": value}

    square = [[10, 10], [60, 10], [60, 60], [10, 60]]
    result = [
        polygon("good", square),
        polygon("short", [[1, 1], [2, 2]]),
        polygon("pear", square, "pear"),
        {"id": "hollow", "type": "polygonlabels", "from_name": "shape", "value": {"polygonlabels": ["leaf"]}},
        {"id": "choice", "type": "choices", "from_name": "quality", "value": {"choices": ["good"]}},
    ]
    outlines, problems = read_outlines({"id": 7, "result": result}, parse_label_config(POLYGONS), SIZE)
    assert [outline.label for outline in outlines] == ["leaf"]
    assert len(problems) == 3
    assert "region short of annotation 7 is left out: an outline needs at least 3 points" in problems[0]
    assert "its label pear is not one of leaf, spot" in problems[1]
    assert "region hollow" in problems[2] and "'points'" in problems[2]


def test_a_brush_of_another_size_is_refused() -> None:
    config = parse_label_config(ALL_SHAPES)
    regions = instances_to_regions(instances(ring_and_island(), labels=[0]), ("soil", "x", "y"), config)
    outlines, problems = read_outlines({"id": 1, "result": regions}, config, (60, 60))
    assert outlines == () and "its brush mask holds 19200 pixels, the image 3600" in problems[0]


def test_parts_that_point_at_each_other_do_not_hang() -> None:
    config = parse_label_config(POLYGONS)
    first, second = instances_to_regions(instances(ring_and_island(), labels=[0]), ("leaf", "x", "y"), config)
    first["parentID"] = second["id"]
    outlines, _ = read_outlines({"id": 1, "result": [first, second]}, config, SIZE)
    assert len(outlines) in (1, 2)


def annotation(identity: int, updated: str, **more: object) -> dict:
    return {"id": identity, "updated_at": updated, "result": [], **more}


def test_ground_truth_counts_first_then_the_newest_and_never_a_skipped_one() -> None:
    old, new = annotation(1, "2026-01-01"), annotation(2, "2026-01-02")
    truth = annotation(3, "2025-01-01", ground_truth=True)
    skipped = annotation(4, "2026-02-01", was_cancelled=True)
    assert choose_annotation([new, old]) is new
    assert choose_annotation([new, truth, old]) is truth
    assert choose_annotation([skipped, old]) is old
    assert choose_annotation([skipped]) is None and choose_annotation([]) is None


def test_the_digest_changes_with_the_regions_only() -> None:
    region = {"id": "a", "value": {"x": 1}}
    assert annotation_digest({"result": [region], "updated_at": 1}) == annotation_digest({"result": [region]})
    assert annotation_digest({"result": [region]}) != annotation_digest({"result": []})
