"""What annotators draw, as Label Studio stores it: results of an annotation, one by one."""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np

from backend.label_studio.annotations import read_outlines
from backend.label_studio.labels import parse_label_config
from model.geometry import polygons_to_mask
from model.records import Outline

SIZE = (300, 400)
ALL = """<View><Image name="left" value="$left"/><Image name="right" value="$right"/><Text name="told" value="$told"/>
<PolygonLabels name="shape" toName="left,right"><Label value="plum"/><Label value="pear"/></PolygonLabels>
<BrushLabels name="brush" toName="left"><Label value="plum"/></BrushLabels>
<BitmaskLabels name="bits" toName="left"><Label value="plum"/></BitmaskLabels>
<EllipseLabels name="round" toName="left"><Label value="plum"/></EllipseLabels>
<RectangleLabels name="box" toName="left"><Label value="plum"/></RectangleLabels>
<KeyPointLabels name="point" toName="left"><Label value="plum"/><Label value="stem"/></KeyPointLabels>
<Choices name="ripe" toName="left" perRegion="true"><Choice value="yes"/></Choices>
<TextArea name="note" toName="left" perRegion="true"/><Rating name="stars" toName="left" perRegion="true"/>
<Taxonomy name="kind" toName="left" perRegion="true"><Choice value="a"/></Taxonomy>
<Number name="weight" toName="left" perRegion="true"/><Ellipse name="nameless" toName="left"/>
<Labels name="words" toName="told"><Label value="w"/></Labels></View>"""
JOINED = """<View><Image name="image" value="$image"/>
<Labels name="l" toName="image"><Label value="plum"/><Label value="pear"/></Labels>
<Polygon name="poly" toName="image"/><Brush name="brush" toName="image"/><Rectangle name="box" toName="image"/>
<Ellipse name="round" toName="image"/></View>"""
CONFIG, LABELS_BESIDE = parse_label_config(ALL), parse_label_config(JOINED)
STAR = [[50, 10], [67.6, 82.4], [21.5, 37.6], [78.5, 37.6], [32.4, 82.4]]
TRIANGLE = [[10, 10], [40, 10], [40, 40]]


def result(name: str, kind: str, identity: str | None = "a", labels: list[str] | None = None, **value: Any) -> dict:
    own = {"value": {**value, **({} if labels is None else {kind: labels})}}
    return {"type": kind, "from_name": name, "to_name": "left", **({} if identity is None else {"id": identity}), **own}


def polygon(identity: str | None = "a", labels: tuple[str, ...] = ("plum",), points: list = TRIANGLE, **more) -> dict:
    return {**result("shape", "polygonlabels", identity, list(labels), points=points), **more}


def read(*results: dict, config=CONFIG) -> tuple[tuple[Outline, ...], tuple[str, ...]]:
    return read_outlines({"id": 7, "result": list(results)}, config, SIZE)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def mask_of(outline: Outline) -> np.ndarray:
    return polygons_to_mask(outline.parts, SIZE)


def png(pixels: np.ndarray) -> str:
    return "data:image/png;base64," + base64.b64encode(cv2.imencode(".png", pixels)[1].tobytes()).decode()


def blob() -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    cv2.ellipse(mask, (150, 120), (70, 40), 25, 0, 360, 1, -1)
    cv2.circle(mask, (150, 120), 12, 0, -1)
    return mask.astype(bool)


PER_REGION = [
    result("ripe", "choices", labels=["yes"], points=TRIANGLE),
    {**result("note", "textarea", points=TRIANGLE), "value": {"points": TRIANGLE, "text": ["soft"]}},
    {**result("stars", "rating"), "value": {"points": TRIANGLE, "rating": 3}},
    {**result("kind", "taxonomy"), "value": {"points": TRIANGLE, "taxonomy": [["a"]]}},
    {**result("weight", "number"), "value": {"points": TRIANGLE, "number": 12}},
]
"""Said of a region, with its id; none outlines anything."""
