from __future__ import annotations

import re

import pytest

from backend.errors import BadLabelConfig
from backend.label_studio.annotations import read_outlines
from backend.label_studio.labels import parse_label_config
from tests.backend.configs import ALL_SHAPES, POLYGONS


def test_labels_image_and_predicted_values_are_read() -> None:
    config = parse_label_config(POLYGONS)
    assert config.image_value.text == "$photo"
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


def smart(*controls: str) -> str:
    tags = "".join(f"<{c}><Label value='leaf'/></{c.split()[0]}>" for c in controls)
    return f"""<View><Image name="image" value="$photo"/>
<PolygonLabels name="shape" toName="image"><Label value="leaf"/></PolygonLabels>{tags}</View>"""


@pytest.mark.parametrize(
    "control", ["RectangleLabels name='s' smart='true'", "KeyPointLabels name='s' smartOnly='true'"]
)
def test_a_smart_tool_that_is_answered_asks_for_no_remark(control: str) -> None:
    config = parse_label_config(smart(f"{control} toName='image'"))
    assert config.has_smart_tool and config.remarks == ()


@pytest.mark.parametrize(
    ("control", "remark"),
    [
        ("EllipseLabels name='s' smart='true'", "the EllipseLabels 's' with smart=\"true\" gets no answers: only rect"),
        ("BrushLabels name='s' smartonly='true'", "the BrushLabels 's' with smartOnly=\"true\" gets no answers"),
        ("KeyPointLabels name='s' smart='true'", "also sets plain points while Auto-Annotation is off.*smartOnly"),
        ("KeyPointLabels name='s'", "the KeyPointLabels 's' outlines nothing that can be learned"),
    ],
)
def test_what_a_smart_tool_cannot_do_is_named_once(control: str, remark: str) -> None:
    (told,) = parse_label_config(smart(f"{control} toName='image'")).remarks
    assert re.search(remark, told)


def test_a_label_of_a_smart_point_goes_by_its_alias() -> None:
    xml = smart("KeyPointLabels name='s' toName='image' smartOnly='true'").replace(
        "<Label value='leaf'/></KeyPointLabels>", "<Label value='Blatt' alias='leaf'/></KeyPointLabels>"
    )
    assert parse_label_config(xml).remarks == ()


def test_a_label_that_only_a_smart_point_has_is_named() -> None:
    xml = smart("KeyPointLabels name='s' toName='image' smartOnly='true'").replace(
        "<Label value='leaf'/></KeyPointLabels>", "<Label value='leaf'/><Label value='pear'/></KeyPointLabels>"
    )
    (told,) = parse_label_config(xml).remarks
    assert "gets no answer for pear, which no shape of the labelling config offers" in told


ALIASED = """<View><Image name="image" value="$image"/><PolygonLabels name="l" toName="image">
<Label value="Red pear" alias="pear_red"/><Label value=" plum "/><Label value="Leaf" predicted_values="x, y"/>
</PolygonLabels></View>"""


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("pear_red", "pear_red"),
        ("Red pear", "pear_red"),
        (" plum ", " plum "),
        ("plum", " plum "),
        ("y", "Leaf"),
        ("leaf", None),
    ],
)
def test_a_label_goes_by_its_value_too_and_without_blanks_around_it(name: str, label: str | None) -> None:
    config = parse_label_config(ALIASED)
    assert config.classes == ("pear_red", " plum ", "Leaf") and config.label_for(name) == label
    points = [[10, 10], [50, 10], [50, 50]]
    region = {"id": "a", "type": "polygonlabels", "from_name": "l", "to_name": "image"}
    region["value"] = {"points": points, "polygonlabels": [name]}
    outlines, left_out = read_outlines({"id": 1, "result": [region]}, config, (40, 60))
    wanted = [label] if label and name != "y" else []  # a region's label is none of a model's class
    assert [outline.label for outline in outlines] == wanted and len(left_out) == 1 - len(wanted)


def test_labels_of_a_text_have_no_other_names() -> None:
    words = '<Text name="t" value="$t"/><Labels name="w" toName="t"><Label value=" noun "/></Labels></View>'
    config = parse_label_config(ALIASED.replace("</View>", words))
    assert config.label_for("noun") is None and config.label_for("plum") == " plum "


def test_a_name_that_is_a_label_itself_is_no_other_label() -> None:
    twins = ALIASED.replace('" plum "', '"Red pear"').replace('"Leaf"', '"pear_red "')
    config = parse_label_config(twins)
    assert [config.label_for(name) for name in config.classes] == ["pear_red", "Red pear", "pear_red "]
