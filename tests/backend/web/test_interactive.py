from __future__ import annotations

import numpy as np
import pytest
import torch

from backend.errors import BadSetting
from backend.label_studio.annotations import read_outlines
from backend.label_studio.labels import parse_label_config
from backend.web.interactive import outline_box, read_context
from model.engines.base import Engine, EngineConfig
from model.engines.loader import build_engine
from model.errors import BadRecord
from model.geometry import polygons_to_mask

SIZE = (120, 160)
LABELS = '<Label value="red"/><Label value="blue"/>'
XML = f"""<View><Image name="image" value="$image"/>
<RectangleLabels name="box" toName="image" smart="true">{LABELS}<Label value="new"/></RectangleLabels>
<PolygonLabels name="shape" toName="image">{LABELS}<Label value="new"/></PolygonLabels></View>"""
CONFIG = parse_label_config(XML)


def context(x: float, y: float, width: float, height: float, label: str | None = "red", **more: object) -> dict:
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": 0, **more}
    if label is not None:
        value["rectanglelabels"] = [label]
    region = {"id": "b", "from_name": "box", "to_name": "image", "type": "rectanglelabels", "value": value}
    return {"result": [region]}


@pytest.fixture
def engine() -> Engine:
    made = build_engine("fake", ("red", "blue"), EngineConfig())
    made.load_tensors({"colours": torch.tensor([[0.85, 0.1, 0.1], [0.1, 0.1, 0.85]])}, ("red", "blue"))
    return made


def picture() -> np.ndarray:
    image = np.full((*SIZE, 3), 250, np.uint8)
    image[30:90, 20:80] = (215, 30, 30)
    image[30:90, 100:150] = (30, 30, 215)
    return image


def test_the_object_in_the_box_is_outlined_by_the_best_control(engine: Engine) -> None:
    box = read_context(context(6, 15, 50, 70), CONFIG)
    regions = outline_box(engine, engine.features(picture()), box, SIZE, CONFIG)
    assert {region["type"] for region in regions} == {"polygonlabels"}
    assert all("score" not in region for region in regions)
    (outline,), problems = read_outlines({"id": 1, "result": regions}, CONFIG, SIZE)
    truth = np.zeros(SIZE, bool)
    truth[30:90, 20:80] = True
    found = polygons_to_mask(outline.parts, SIZE)
    assert problems == () and outline.label == "red"
    assert (found & truth).sum() / (found | truth).sum() > 0.9


def test_a_label_that_was_not_learned_yet_outlines_whatever_is_there(engine: Engine) -> None:
    box = read_context(context(60, 15, 39, 70, "new"), CONFIG)
    (region,) = outline_box(engine, engine.features(picture()), box, SIZE, CONFIG)
    assert region["value"]["polygonlabels"] == ["new"]


def test_two_outlines_of_one_annotation_never_share_an_id(engine: Engine) -> None:
    box, features = read_context(context(6, 15, 50, 70), CONFIG), engine.features(picture())
    ids = {outline_box(engine, features, box, SIZE, CONFIG)[0]["id"] for _ in range(20)}
    assert len(ids) == 20


def test_an_empty_place_gives_no_region(engine: Engine) -> None:
    box = read_context(context(80, 80, 19, 19), CONFIG)
    assert outline_box(engine, engine.features(picture()), box, SIZE, CONFIG) == []


def test_a_box_is_read_in_pixels_clipped_and_never_next_to_nothing() -> None:
    assert read_context(context(-10, 50, 60, 80), CONFIG).on((100, 200)).tolist() == [0, 50, 100, 100]
    turned = read_context(context(50, 25, 25, 25, rotation=90), CONFIG)
    assert turned.on((100, 100)) == pytest.approx([25, 25, 50, 50])
    for tiny in (context(10, 10, 0.5, 50), context(120, 10, 50, 50), context(10, 10, 0, 0)):
        with pytest.raises(BadRecord):
            read_context(tiny, CONFIG).on((100, 100))


def test_what_is_no_box_is_passed_over_and_a_foreign_label_named() -> None:
    point = {"id": "k", "type": "keypointlabels", "value": {"x": 1, "y": 1}}
    assert read_context({"result": [point]}, CONFIG) is None
    assert read_context({"result": []}, CONFIG) is None
    assert read_context({}, CONFIG) is None
    assert read_context(context(1, 1, 9, 9, None), CONFIG).label == CONFIG.classes[0]
    with pytest.raises(BadSetting, match="the box's label 'pear' is not one of red, blue, new"):
        read_context(context(1, 1, 9, 9, "pear"), CONFIG)
