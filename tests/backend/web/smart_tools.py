"""What Label Studio sends for what was drawn with a smart tool, and a labelling config that has them."""

from __future__ import annotations

from backend.label_studio.labels import parse_label_config

LABELS = '<Label value="red"/><Label value="blue"/><Label value="new"/>'
XML = f"""<View><Image name="image" value="$image"/>
<RectangleLabels name="box" toName="image" smart="true">{LABELS}</RectangleLabels>
<KeyPointLabels name="point" toName="image" smartOnly="true">{LABELS}</KeyPointLabels>
<PolygonLabels name="shape" toName="image">{LABELS}</PolygonLabels></View>"""
CONFIG = parse_label_config(XML)


def box(x: float, y: float, width: float, height: float, label: str | None = "red", **more: object) -> dict:
    """A context with one box, in percent."""
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": 0, **more}
    if label is not None:
        value["rectanglelabels"] = [label]
    region = {"id": "b", "from_name": "box", "to_name": "image", "type": "rectanglelabels", "value": value}
    return {"result": [region]}


def point(x: float, y: float, label: str = "red", **more: object) -> dict:
    """A context with one click, in percent; `is_positive` as the smart tool sends it."""
    value = {"x": x, "y": y, "width": 0.3, "keypointlabels": [label], "labels": [label]}
    region = {"id": f"k{x}-{y}", "from_name": "point", "to_name": "image", "type": "keypointlabels", "value": value}
    return {"result": [{**region, **more}]}
