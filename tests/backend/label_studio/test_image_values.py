from __future__ import annotations

from typing import Any

import pytest

from backend.errors import BadLabelConfig
from backend.label_studio.image_values import ImageValue
from backend.label_studio.labels import parse_label_config
from tests.backend.configs import POLYGONS


@pytest.mark.parametrize(
    ("text", "data", "address"),
    [
        ("$image", {"image": "/a.png"}, "/a.png"),
        ("$photo.url", {"photo": {"url": "/a.png"}}, "/a.png"),
        ("$photo.url", {"photo.url": "/flat.png", "photo": {"url": "/a.png"}}, "/flat.png"),
        ("$images[0]", {"images": ["/a.png", "/b.png"]}, "/a.png"),
        ("$images[1].url", {"images": [{"url": "/a.png"}, {"url": "/b.png"}]}, "/b.png"),
        ("http://h/$name", {"name": "a.png"}, "http://h/a.png"),
        ("http://h/$field/$number?w=1", {"field": "east", "number": 7.0}, "http://h/east/7?w=1"),
        ("http://h/$name.png", {"name": "a"}, "http://h/"),  # `name.png` is a path there, too
        ("$photo.url", {"photo": "/a.png"}, None),
        ("$images[2]", {"images": ["/a.png"]}, None),
        ("$image", {}, None),
        ("$images", {"images": ["/a.png"]}, ["/a.png"]),
    ],
)
def test_a_value_is_evaluated_as_label_studio_s_editor_does(text: str, data: dict[str, Any], address: Any) -> None:
    assert ImageValue(text).of(data) == address


@pytest.mark.parametrize("text", ["$image", "$photo.url", "$images[0]", "$rows[1].photo.url"])
def test_new_data_give_the_address_that_they_were_made_for(text: str) -> None:
    value = ImageValue(text)
    data = value.data_with("/data/upload/1/a.png")
    assert value.of(data) == "/data/upload/1/a.png" and "." not in "".join(data)


def test_text_around_a_variable_is_left_out_of_the_data_or_refused() -> None:
    value = ImageValue("http://h/$name")
    assert value.data_with("http://h/a.png") == {"name": "a.png"}
    with pytest.raises(BadLabelConfig, match=r"by value='http://h/\$name', of which '/data/a.png' is none"):
        value.data_with("/data/a.png")


def config(value: str) -> str:
    return POLYGONS.replace('value="$photo"', value)


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (config('valueList="$photos"'), "the Image 'image' has a valueList, and pages of one task are not learned"),
        (config('value="$photos" valueList="$photos"'), "has a valueList"),
        (config('value="photo"'), "has value='photo', which names no key of a task's data"),
        (
            config('value="$photos[{{idx}}]"')
            .replace("<Image", '<Repeater on="$photos"><Image')
            .replace('"/>\n<Poly', '"/></Repeater>\n<Poly'),
            r"'image' stands in a Repeater \(\$photos\[\{\{idx\}\}\]\), and images of one task that vary in number",
        ),
        (
            config('value="$photos"')
            .replace("<Image", '<Repeater on="$photos"><Image')
            .replace('"/>\n<Poly', '"/></Repeater>\n<Poly'),
            "'image' stands in a Repeater",
        ),
        (
            POLYGONS.replace('name="shape"', 'name="shape" value="$labels"'),
            r"the PolygonLabels 'shape' takes its labels from each task's data \(value='\$labels'\)",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_refused_by_name(xml: str, message: str) -> None:
    with pytest.raises(BadLabelConfig, match=message):
        parse_label_config(xml)


def test_a_repeater_beside_the_image_that_is_drawn_on_does_no_harm() -> None:
    beside = '<Repeater on="$more" indexFlag="{{idx}}"><Image name="m_{{idx}}" value="$more[{{idx}}]"/></Repeater><Poly'
    assert parse_label_config(POLYGONS.replace("<Poly", beside, 1)).image_value == ImageValue("$photo")
