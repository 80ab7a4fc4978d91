"""From Label Studio's annotations to training records."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from label_studio_sdk.converter import brush

from backend.label_studio.labels import LabelConfig
from model.errors import BadRecord
from model.geometry import mask_to_polygons
from model.records import Outline, Polygon

NO_OBJECTS = ("ellipselabels",)
"""Kinds of regions that outline something and cannot be used."""

Annotation = dict[str, Any]
Region = dict[str, Any]


def choose_annotation(annotations: Sequence[Annotation]) -> Annotation | None:
    """The one annotation of a task that counts: ground truth first, then the newest submitted; skipped ones never."""
    submitted = [a for a in annotations if not a.get("was_cancelled")]
    return max(submitted, key=lambda a: (bool(a.get("ground_truth")), a["updated_at"], a["id"]), default=None)


def annotation_digest(annotation: Annotation) -> str:
    """Hash of what an annotation says, for noticing edits."""
    return hashlib.sha256(json.dumps(annotation["result"], sort_keys=True).encode()).hexdigest()[:16]


def read_outlines(
    annotation: Annotation, config: LabelConfig, size_hw: tuple[int, int], *, with_scores: bool = False
) -> tuple[tuple[Outline, ...], tuple[str, ...]]:
    """The objects of an annotation on an image of that size, and one line for each region that cannot be used.

    Regions tied by `parentID` are parts of one object if they have the same label. Regions of other controls than the
    config's are not shapes and are passed over, but for ellipses. Label Studio stores what is drawn on a turned image
    (`image_rotation`) as on the image itself. Annotations keep the scores of the predictions that they began as, which
    are read `with_scores` only.
    """
    parts: dict[Any, list[Polygon]] = {}
    labels: dict[Any, str] = {}
    scores: dict[Any, float | None] = {}
    problems: list[str] = []
    tags = {control.name: control.tag for control in config.controls}
    by_id = {region["id"]: region for region in annotation["result"] if region.get("id") is not None}
    for number, region in enumerate(annotation["result"]):
        tag = tags.get(region.get("from_name"))
        if tag is None and region.get("type") not in NO_OBJECTS:
            continue
        try:
            if tag is None:
                raise BadRecord(f"it is of the kind {region['type']}; draw it as a polygon, with the brush or as a box")
            label = _label(region, config)
            root = (number,) if region.get("id") is None else _root(region, by_id)
            parts.setdefault(root, []).extend(SHAPES[tag](region["value"], size_hw))
            labels.setdefault(root, label)
            scores.setdefault(root, region.get("score") if with_scores else None)
        except (BadRecord, KeyError, TypeError, ValueError) as err:
            reason = (
                str(err)
                if isinstance(err, BadRecord)
                else f"its {type(err).__name__} {err} does not fit a {tag} region"
            )
            problems.append(f"region {region.get('id')} of annotation {annotation.get('id')} is left out: {reason}")
    outlines = (Outline(labels[root], tuple(p), scores[root]) for root, p in parts.items() if p)
    return tuple(outlines), tuple(problems)


def _label(region: Region, config: LabelConfig) -> str:
    names = _names(region)
    known = [name for name in names if name in config.classes]
    if not known:
        raise BadRecord(
            f"its label {', '.join(names) or '(none)'} is not one of {', '.join(config.classes)}; "
            "choose a label of the config or add it there"
        )
    return str(known[0])


def _root(region: Region, by_id: Mapping[Any, Region]) -> Any:
    """Id of the object's first part: up the parents as long as the labels are the same."""
    seen = {region["id"]}
    while (parent := by_id.get(region.get("parentID"))) is not None:
        if parent["id"] in seen or _names(parent) != _names(region):
            break
        seen.add(parent["id"])
        region = parent
    return region["id"]


def _names(region: Region) -> list[str]:
    return (region.get("value") or {}).get(region.get("type")) or []


def read_rectangle(region: Region, size_hw: tuple[int, int]) -> np.ndarray:
    """The corners (4, 2) of a rectangle region in pixels of an image of that size; BadRecord if it is empty."""
    return _rectangle(region["value"], size_hw)[0].exterior


def _polygon(value: dict[str, Any], size_hw: tuple[int, int]) -> list[Polygon]:
    points = np.asarray(value["points"], float).reshape(-1, 2)
    return [Polygon(points * np.array([size_hw[1], size_hw[0]]) / 100)]


def _brush(value: dict[str, Any], size_hw: tuple[int, int]) -> list[Polygon]:
    flat = brush.decode_rle(value["rle"])
    if flat.size != size_hw[0] * size_hw[1] * 4:
        raise BadRecord(
            f"its brush mask holds {flat.size // 4} pixels, the image {size_hw[0] * size_hw[1]}; draw it again"
        )
    return list(mask_to_polygons(flat.reshape(*size_hw, 4)[..., 3] > 0, tolerance_px=0))


def _rectangle(value: dict[str, Any], size_hw: tuple[int, int]) -> list[Polygon]:
    scale = np.array([size_hw[1], size_hw[0]]) / 100
    width, height = value["width"], value["height"]
    if width <= 0 or height <= 0:
        raise BadRecord(f"its rectangle is {width} by {height} %; delete it or draw it larger")
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], float) * scale
    angle = math.radians(value.get("rotation") or 0)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return [Polygon(corners @ turn + np.array([value["x"], value["y"]]) * scale)]


SHAPES: dict[str, Callable[[dict[str, Any], tuple[int, int]], list[Polygon]]] = {
    "PolygonLabels": _polygon,
    "BrushLabels": _brush,
    "RectangleLabels": _rectangle,
}
