"""From a network's instances to Label Studio's regions."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from label_studio_sdk.converter import brush

from backend.errors import BadLabelConfig
from backend.label_studio.labels import Control, LabelConfig
from model.geometry import box_of, keyhole, mask_to_polygons, painted_polygons, polygons_to_mask
from model.instances import Instances
from model.records import Outline, Polygon

TOLERANCE_PX = 1.0
TOLERANCE_SHARE = 1 / 250
"""An outline may be off by a pixel, or by this share of the object's longer side: a ninth of a mask head's cell."""

DECIMALS = 5
"""Of points in percent of the image: 0.001 px of one of 10,000 px."""

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
    return _tied(region_id, [_results(control, label, value, mask.shape) for value in values])


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
        values = _polygon_values(list(_as_painted(outline.parts, size_hw)), size_hw)
        return _tied(region_id, [_results(control, outline.label, value, size_hw) for value in values])
    mask = polygons_to_mask(outline.parts, size_hw)
    if not mask.any():
        return []
    return mask_to_regions(mask, box_of(mask), outline.label, config, region_id)


def _as_painted(parts: Sequence[Polygon], size_hw: tuple[int, int]) -> Iterator[Polygon]:
    """The parts, those that cross themselves by their pixels: Label Studio would fill what is no part of them."""
    for part in parts:
        painted = polygons_to_mask(painted_polygons(keyhole(part), size_hw), size_hw)
        meant = polygons_to_mask([part], size_hw)
        yield from [part] if (painted == meant).all() else mask_to_polygons(meant, tolerance_px=0)


def _tied(root: str, parts: list[list[Region]]) -> list[Region]:
    """The results of all parts of one object: the first part carries its id, the others point to it."""
    for part, results in enumerate(parts):
        for result in results:
            result["id"] = root if part == 0 else f"{root}-{part}"
            if part:
                result["parentID"] = root
    return [result for results in parts for result in results]


def _results(control: Control, label: str, value: dict[str, Any], size_hw: tuple[int, ...]) -> list[Region]:
    """What Label Studio has of one region: a result, or two where the label comes from a tag beside the shape."""
    size = {"original_width": size_hw[1], "original_height": size_hw[0], "image_rotation": 0}
    place = {"to_name": control.to_name, **size}
    kind, name = control.region_type, control.name
    if control.labels_name is None:
        return [{"type": kind, "from_name": name, **place, "value": {**value, kind: [label]}}]
    shape = {"type": kind, "from_name": name, **place, "value": value}
    return [shape, {"type": "labels", "from_name": control.labels_name, **place, "value": {**value, "labels": [label]}}]


def _polygons(mask: np.ndarray, box: np.ndarray, tolerance_px: float) -> Values:
    height, width = mask.shape
    return _polygon_values(mask_to_polygons(mask, tolerance_px), (height, width))


def _polygon_values(parts: Sequence[Polygon], size_hw: tuple[int, int]) -> Values:
    scale = 100 / np.array([size_hw[1], size_hw[0]])
    return [{"points": np.round(keyhole(part) * scale, DECIMALS).tolist(), "closed": True} for part in parts]


def _brush(mask: np.ndarray, box: np.ndarray, tolerance_px: float) -> Values:
    if not mask.any():
        return []
    return [{"format": "rle", "rle": brush.mask2rle(mask.astype(np.uint8) * 255)}]


def _bitmask(mask: np.ndarray, box: np.ndarray, tolerance_px: float) -> Values:
    """A PNG as large as the image, transparent where the object is not."""
    if not mask.any():
        return []
    pixels = np.repeat((mask.astype(np.uint8) * 255)[..., None], 4, axis=2)
    png = base64.b64encode(cv2.imencode(".png", pixels)[1].tobytes()).decode()
    return [{"imageDataURL": f"data:image/png;base64,{png}"}]


def _ellipse(mask: np.ndarray, box: np.ndarray, tolerance_px: float) -> Values:
    """The ellipse with the object's area and second moments."""
    moments = cv2.moments(mask.astype(np.uint8), binaryImage=True)
    if not moments["m00"]:
        return []
    centre = np.array([moments["m10"], moments["m01"]]) / moments["m00"] + 0.5  # of pixel 0 it is at 0.5
    spread = np.array([[moments["mu20"], moments["mu11"]], [moments["mu11"], moments["mu02"]]]) / moments["m00"]
    squares, axes = np.linalg.eigh(spread)
    across, along = 2 * np.sqrt(np.maximum(squares, 1 / 12))  # 1 / 12: of a single row of pixels
    grown = math.sqrt(moments["m00"] / (math.pi * along * across))
    angle = math.degrees(math.atan2(axes[1, 1], axes[0, 1])) % 180
    height, width = mask.shape
    value = {
        "x": centre[0] / width,
        "y": centre[1] / height,
        "radiusX": along * grown / width,
        "radiusY": across * grown / height,
    }
    return [{**{key: round(100 * float(part), 4) for key, part in value.items()}, "rotation": round(angle, 2)}]


def _rectangle(mask: np.ndarray, box: np.ndarray, tolerance_px: float) -> Values:
    height, width = mask.shape
    x0, y0, x1, y1 = (float(v) for v in box)
    value = {"x": x0 / width, "y": y0 / height, "width": (x1 - x0) / width, "height": (y1 - y0) / height}
    return [{**{key: round(100 * part, 4) for key, part in value.items()}, "rotation": 0}]


SHAPES: dict[str, Callable[[np.ndarray, np.ndarray, float], Values]] = {
    "PolygonLabels": _polygons,
    "BrushLabels": _brush,
    "BitmaskLabels": _bitmask,
    "RectangleLabels": _rectangle,
    "EllipseLabels": _ellipse,
}
