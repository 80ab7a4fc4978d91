"""From a network's instances to Label Studio's regions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from label_studio_sdk.converter import brush

from backend.errors import BadLabelConfig
from backend.label_studio.labels import Control, LabelConfig
from model.geometry import box_of, keyhole, mask_to_polygons, polygons_to_mask
from model.instances import Instances
from model.records import Outline, Polygon

TOLERANCE_PX = 1.0
TOLERANCE_SHARE = 1 / 250
"""An outline may be off by a pixel, or by this share of the object's longer side: a ninth of a mask head's cell."""

Region = dict[str, Any]
Values = list[dict[str, Any]]


def instances_to_regions(
    instances: Instances, classes: tuple[str, ...], config: LabelConfig, *, score_threshold: float = 0.0
) -> list[Region]:
    """Regions of the instances whose class has a label; the parts of one object are tied by `parentID`.

    An object needs a higher score, all classes together, than its control's threshold or, where that has none,
    `score_threshold`. Ids are made from the instance's place, so that the same prediction gives the same regions.
    """
    regions: list[Region] = []
    for index in range(len(instances)):
        label = config.label_for(classes[int(instances.labels[index])])
        control = config.control_for(label) if label is not None else None
        if label is None or control is None:
            continue
        threshold = score_threshold if control.score_threshold is None else control.score_threshold
        if instances.softmaxes[index].sum() <= threshold:
            continue
        parts = mask_to_regions(instances.masks[index], instances.boxes_xyxy[index], label, config, f"m{index}")
        regions += [{**part, "score": round(float(instances.scores[index]), 4)} for part in parts]
    return regions


def instances_to_outlines(instances: Instances, classes: tuple[str, ...]) -> tuple[Outline, ...]:
    """The objects with their scores, each with all its parts; those without a pixel are left out."""
    shapes = zip(instances.masks, instances.boxes_xyxy, instances.labels, instances.scores, strict=True)
    found = (
        (classes[int(label)], mask_to_polygons(mask, tolerance_px(box)), round(float(score), 4))
        for mask, box, label, score in shapes
    )
    return tuple(Outline(label, parts, score) for label, parts, score in found if parts)


def tolerance_px(box_xyxy: np.ndarray) -> float:
    """How far the outline of an object with that box (4,) may lie off its mask, pixels."""
    return max(TOLERANCE_PX, TOLERANCE_SHARE * float(np.max(box_xyxy[2:] - box_xyxy[:2])))


def mask_to_regions(
    mask: np.ndarray, box_xyxy: np.ndarray, label: str, config: LabelConfig, region_id: str
) -> list[Region]:
    """One object (h, w) bool as regions of its label's preferred control; the first has the id, the others point to it.

    `box_xyxy` (4,) is what a rectangle shows. Raises BadLabelConfig for a label without a control.
    """
    control = config.control_for(label)
    if control is None:
        raise BadLabelConfig(
            f"label {label!r} is not one of {', '.join(config.classes)}; add it in the project's settings"
        )
    values = SHAPES[control.tag](mask, box_xyxy, tolerance_px(box_xyxy))
    return _tied(region_id, [_region(control, label, value, mask.shape) for value in values])


def outlines_to_regions(outlines: Sequence[Outline], size_hw: tuple[int, int], config: LabelConfig) -> list[Region]:
    """Regions of objects on an image of that size; polygons keep their points, other controls get the mask.

    Raises BadLabelConfig for a label without a control.
    """
    regions: list[Region] = []
    for index, outline in enumerate(outlines):
        score = {} if outline.score is None else {"score": outline.score}
        regions += [{**part, **score} for part in _outline_regions(outline, size_hw, config, f"a{index}")]
    return regions


def _outline_regions(outline: Outline, size_hw: tuple[int, int], config: LabelConfig, region_id: str) -> list[Region]:
    control = config.control_for(outline.label)
    if control is not None and control.tag == "PolygonLabels":
        values = _polygon_values(outline.parts, size_hw)
        return _tied(region_id, [_region(control, outline.label, value, size_hw) for value in values])
    mask = polygons_to_mask(outline.parts, size_hw)
    if not mask.any():
        return []
    return mask_to_regions(mask, box_of(mask), outline.label, config, region_id)


def _tied(root: str, regions: list[Region]) -> list[Region]:
    """The parts of one object: the first carries its id, the others point to it."""
    for part, region in enumerate(regions):
        region["id"] = root if part == 0 else f"{root}-{part}"
        if part:
            region["parentID"] = root
    return regions


def _region(control: Control, label: str, value: dict[str, Any], size_hw: tuple[int, ...]) -> Region:
    return {
        "type": control.region_type,
        "from_name": control.name,
        "to_name": control.to_name,
        "original_width": size_hw[1],
        "original_height": size_hw[0],
        "image_rotation": 0,
        "value": {**value, control.region_type: [label]},
    }


def _polygons(mask: np.ndarray, box: np.ndarray, tolerance_px: float) -> Values:
    height, width = mask.shape
    return _polygon_values(mask_to_polygons(mask, tolerance_px), (height, width))


def _polygon_values(parts: Sequence[Polygon], size_hw: tuple[int, int]) -> Values:
    scale = 100 / np.array([size_hw[1], size_hw[0]])
    return [{"points": np.round(keyhole(part) * scale, 4).tolist(), "closed": True} for part in parts]


def _brush(mask: np.ndarray, box: np.ndarray, tolerance_px: float) -> Values:
    if not mask.any():
        return []
    return [{"format": "rle", "rle": brush.mask2rle(mask.astype(np.uint8) * 255)}]


def _rectangle(mask: np.ndarray, box: np.ndarray, tolerance_px: float) -> Values:
    height, width = mask.shape
    x0, y0, x1, y1 = (float(v) for v in box)
    value = {"x": x0 / width, "y": y0 / height, "width": (x1 - x0) / width, "height": (y1 - y0) / height}
    return [{**{key: round(100 * part, 4) for key, part in value.items()}, "rotation": 0}]


SHAPES: dict[str, Callable[[np.ndarray, np.ndarray, float], Values]] = {
    "PolygonLabels": _polygons,
    "BrushLabels": _brush,
    "RectangleLabels": _rectangle,
}
