from __future__ import annotations

import pytest

from backend.errors import BadLabelConfig
from backend.label_studio.labels import parse_label_config
from tests.backend.configs import ALL_SHAPES, POLYGONS


def test_labels_image_and_predicted_values_are_read() -> None:
    config = parse_label_config(POLYGONS)
    assert config.image_key == "photo"
    assert config.classes == ("leaf", "spot")
    assert [config.label_for(name) for name in ("leaf", "lesion", "blot", "pear")] == ["leaf", "spot", "spot", None]


def test_polygons_are_preferred_then_brushes_then_rectangles() -> None:
    config = parse_label_config(ALL_SHAPES)
    assert [control.tag for control in config.controls] == ["PolygonLabels", "BrushLabels", "RectangleLabels"]
    assert {label: config.control_for(label).name for label in config.classes} == {
        "leaf": "shape",
        "soil": "brush",
        "pot": "box",
    }


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("<View><Image", "not valid XML"),
        ('<View><Image name="i" value="$x"/></View>', "got no control at all"),
        (
            '<View><Image name="i" value="$x"/><Choices name="c" toName="i"><Choice value="a"/></Choices></View>',
            "needs a PolygonLabels, BrushLabels, BitmaskLabels, RectangleLabels or EllipseLabels control, got Choices",
        ),
        (
            '<View><Text name="t" value="$x"/>'
            '<PolygonLabels name="p" toName="t"><Label value="a"/></PolygonLabels></View>',
            "has no Image",
        ),
        ('<View><Image name="i" value="$x"/><PolygonLabels name="p" toName="i"/></View>', "hold no Label"),
    ],
)
def test_a_config_that_cannot_serve_says_what_is_missing(xml: str, message: str) -> None:
    with pytest.raises(BadLabelConfig, match=message):
        parse_label_config(xml)


def test_a_tag_may_set_the_score_that_its_pre_labels_need() -> None:
    config = parse_label_config(POLYGONS.replace('name="shape"', 'name="shape" model_score_threshold="0.3"'))
    assert [control.score_threshold for control in config.controls] == [0.3]
    assert [control.score_threshold for control in parse_label_config(POLYGONS).controls] == [None]
    for wrong in ("much", "1.5"):
        with pytest.raises(BadLabelConfig, match=f"tag 'shape' must be a number from 0 to 1, got '{wrong}'"):
            parse_label_config(POLYGONS.replace('name="shape"', f'name="shape" model_score_threshold="{wrong}"'))


def test_a_smart_tool_is_noticed() -> None:
    smart = ALL_SHAPES.replace('name="box"', 'name="box" smart="true"')
    assert parse_label_config(smart).has_smart_tool and not parse_label_config(ALL_SHAPES).has_smart_tool
