"""Random objects with holes and parts survive mask -> regions -> mask, whatever the control and the turn."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from backend.label_studio.annotations import read_outlines
from backend.label_studio.labels import parse_label_config
from backend.label_studio.predictions import mask_to_regions
from model.formats import coco
from model.geometry import box_of, polygons_to_mask
from tests.backend.configs import ALL_SHAPES
from tests.shared import shared

CONFIG = parse_label_config(ALL_SHAPES)
SMALLEST_PX = 20


@st.composite
def objects(draw: st.DrawFn) -> np.ndarray:
    """Masks (h, w) of one object: one to three blobs over 20 x 20 px, each perhaps with a hole."""
    height, width = draw(st.integers(60, 300)), draw(st.integers(60, 300))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mask = np.zeros((height, width), np.uint8)
    for _ in range(draw(st.integers(1, 3))):
        centre = rng.uniform([0, 0], [width, height])
        radii = rng.uniform(SMALLEST_PX * 0.6, min(height, width) / 2.5, 24)
        radii = cv2.blur(np.tile(radii, 3)[None], (5, 1))[0, 24:48]  # a smooth outline, as objects have
        angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        points = centre + np.stack([np.cos(angles), np.sin(angles)], 1) * radii[:, None]
        cv2.fillPoly(mask, [points.round().astype(np.int32)], 1)
        if rng.random() < 0.5:
            cv2.circle(mask, tuple(int(v) for v in centre), int(radii.min() * 0.5), 0, -1)
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask)
    assume(count > 1 and (stats[1:, 2:4] > SMALLEST_PX).all())
    return mask.astype(bool)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("label", ["leaf", "soil"], ids=["polygons", "brush"])
@settings(max_examples=80, deadline=None)
@given(mask=objects())
def test_an_object_comes_back_as_one_and_all_but_the_same(label: str, mask: np.ndarray) -> None:
    regions = mask_to_regions(mask, box_of(mask), label, CONFIG, "m0")
    (outline,), problems = read_outlines({"id": 1, "result": regions}, CONFIG, mask.shape)
    assert problems == () and outline.label == label
    assert iou(polygons_to_mask(outline.parts, mask.shape), mask) >= 0.95


@settings(max_examples=40, deadline=None)
@given(mask=objects())
def test_a_rectangle_comes_back_as_the_box(mask: np.ndarray) -> None:
    regions = mask_to_regions(mask, box_of(mask), "pot", CONFIG, "m0")
    (outline,), _ = read_outlines({"id": 1, "result": regions}, CONFIG, mask.shape)
    x0, y0, x1, y1 = box_of(mask).astype(int)
    box = np.zeros_like(mask)
    box[y0:y1, x0:x1] = True
    assert (polygons_to_mask(outline.parts, mask.shape) == box).all()


def test_polygons_are_light() -> None:
    """Of smooth objects of all sizes the median polygon has at most 60 points."""
    counts = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        mask = np.zeros((600, 800), np.uint8)
        radii = cv2.blur(np.tile(rng.uniform(12, 280, 24), 3)[None], (5, 1))[0, 24:48]
        angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        points = np.array([400, 300]) + np.stack([np.cos(angles), np.sin(angles)], 1) * radii[:, None]
        cv2.fillPoly(mask, [points.round().astype(np.int32)], 1)
        regions = mask_to_regions(mask > 0, box_of(mask > 0), "leaf", CONFIG, "m0")
        counts += [len(region["value"]["points"]) for region in regions]
    assert np.median(counts) <= 60


@pytest.mark.parametrize("name", ["coffee_leaf/annotations.json", "nuclei_dsb2018/annotations.json"])
def test_real_objects_come_back_from_light_polygons(name: str) -> None:
    path = shared("data", *name.split("/"))
    counts, ious = [], []
    for record in coco.read(path)[:40]:
        for outline in record.outlines:
            mask = polygons_to_mask(outline.parts, record.size_hw)
            box = box_of(mask)
            if (box[2:] - box[:2]).min() <= SMALLEST_PX:
                continue
            regions = mask_to_regions(mask, box, "leaf", CONFIG, "m0")
            (back,), _ = read_outlines({"id": 1, "result": regions}, CONFIG, record.size_hw)
            counts += [len(region["value"]["points"]) for region in regions]
            ious.append(iou(polygons_to_mask(back.parts, record.size_hw), mask))
    assert len(ious) >= 40 and min(ious) >= 0.95
    assert np.median(counts) <= 60
