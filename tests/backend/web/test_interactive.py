from __future__ import annotations

import numpy as np
import pytest

from backend.errors import BadSetting
from backend.label_studio.labels import parse_label_config
from backend.web.interactive import SmartBox, SmartPoints, read_context
from model.errors import BadRecord
from tests.backend.web.smart_tools import CONFIG, LABELS, XML, box, point


def test_a_box_is_read_in_pixels_clipped_and_never_next_to_nothing() -> None:
    assert read_context(box(-10, 50, 60, 80), CONFIG).on((100, 200)).tolist() == [0, 50, 100, 100]
    turned = read_context(box(50, 25, 25, 25, rotation=90), CONFIG)
    assert turned.on((100, 100)) == pytest.approx([25, 25, 50, 50])
    for tiny in (box(10, 10, 0.5, 50), box(120, 10, 50, 50), box(10, 10, 0, 0)):
        with pytest.raises(BadRecord):
            read_context(tiny, CONFIG).on((100, 100))


def test_a_click_is_read_in_pixels() -> None:
    asked = read_context(point(25, 50), CONFIG)
    assert isinstance(asked, SmartPoints) and asked.label == "red"
    (click,) = asked.on((100, 200), None)
    assert click.point_xy.tolist() == [50, 50] and click.not_on_xy.shape == (0, 2) and click.side_px is None


def test_clicks_that_were_not_accepted_yet_are_asked_again_and_those_with_alt_are_beside_the_object() -> None:
    regions = [
        *point(10, 10, is_positive=True)["result"],
        *point(30, 10)["result"],  # set without the smart tool, long ago
        *point(50, 50, is_positive=False)["result"],
        *point(20, 10, is_positive=True)["result"],
    ]
    first, second = read_context({"result": regions}, CONFIG).on((100, 100), 7.0)
    assert [c.point_xy.tolist() for c in (first, second)] == [[10, 10], [20, 10]]
    assert first.not_on_xy.tolist() == [[50, 50]] and first.side_px == 7.0


def test_the_newest_box_counts() -> None:
    asked = read_context({"result": [*box(0, 0, 10, 10)["result"], *box(50, 50, 10, 10)["result"]]}, CONFIG)
    assert isinstance(asked, SmartBox) and asked.on((100, 100)).tolist() == [50, 50, 60, 60]


def test_a_label_beside_the_shape_counts_too() -> None:
    xml = f"""<View><Image name="image" value="$image"/><Labels name="l" toName="image">{LABELS}</Labels>
    <Polygon name="p" toName="image"/><Rectangle name="box" toName="image" smart="true"/></View>"""
    (shape,) = box(1, 1, 9, 9, None)["result"]
    named = {**shape, "type": "labels", "from_name": "l", "value": {**shape["value"], "labels": ["blue"]}}
    for sent in ([shape, named], [named, shape]):
        asked = read_context({"result": sent}, parse_label_config(xml))
        assert isinstance(asked, SmartBox) and asked.label == "blue"


def test_nothing_asks_for_nothing_and_a_foreign_label_or_tool_is_named() -> None:
    for nothing in ({"result": []}, {}, {"result": None}):
        assert read_context(nothing, CONFIG) is None
    assert read_context(box(1, 1, 9, 9, None), CONFIG).label == CONFIG.classes[0]
    for foreign in (box(1, 1, 9, 9, "pear"), point(1, 1, "pear")):
        with pytest.raises(BadSetting, match="the label 'pear' of what was drawn is not one of red, blue, new"):
            read_context(foreign, CONFIG)
    ellipse = {"id": "e", "type": "ellipselabels", "value": {"x": 1, "y": 1, "ellipselabels": ["red"]}}
    with pytest.raises(BadSetting, match="of the kind ellipselabels is not answered, only rectangles and points are"):
        read_context({"result": [ellipse]}, CONFIG)


def test_a_point_without_a_place_is_named() -> None:
    broken = {"result": [{"id": "k", "type": "keypointlabels", "value": {"keypointlabels": ["red"]}}]}
    for context in (broken, point(float("nan"), 1, id="k")):
        with pytest.raises(BadRecord, match="the point k has no x and y"):
            read_context(context, CONFIG).on((100, 100), None)


def test_a_box_without_a_place_is_named() -> None:
    for broken in (box(1, 1, "wide", 9), {"result": [{"id": "b", "type": "rectanglelabels", "value": {"x": 1}}]}):
        with pytest.raises(BadRecord, match="the box b has no x, y, width and height"):
            read_context(broken, CONFIG).on((100, 100))
    for nowhere in (box(1, 1, None, 9), box(1, 1, float("nan"), 9)):
        with pytest.raises(BadRecord):
            read_context(nowhere, CONFIG).on((100, 100))


def test_points_in_whole_percent_and_parts_of_it_fall_into_the_image() -> None:
    for size in ((1, 1), (7, 1000)):
        (click,) = read_context(point(99.9, 99.9), CONFIG).on(size, None)
        assert (click.point_xy < np.array(size[::-1])).all()


def test_what_was_drawn_on_another_image_is_named() -> None:
    two = XML.replace("<RectangleLabels", '<Image name="other" value="$other"/><RectangleLabels').replace(
        'name="box" toName="image"', 'name="box" toName="image,other"'
    )
    drawn = box(10, 10, 20, 20)["result"][0]
    with pytest.raises(
        BadSetting, match="drawn on 'other' is not answered: only the first image of a task, 'image', is"
    ):
        read_context({"result": [{**drawn, "to_name": "other"}]}, parse_label_config(two))
