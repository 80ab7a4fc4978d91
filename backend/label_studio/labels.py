"""A project's labelling config: which controls take shapes, on which image, with which labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from label_studio_sdk._extensions.label_studio_tools.core.label_config import parse_config
from label_studio_sdk._extensions.label_studio_tools.core.utils.exceptions import (
    LabelStudioXMLSyntaxErrorSentryIgnored,
)

from backend.errors import BadLabelConfig

CONTROL_TAGS = ("PolygonLabels", "BrushLabels", "RectangleLabels")
"""Controls that take an instance, the preferred first."""

COLOURS = ("#2ca02c", "#d62728", "#ff7f0e", "#1f77b4", "#9467bd", "#8c564b", "#e377c2", "#bcbd22", "#17becf")


@dataclass(frozen=True)
class Control:
    """One control tag: its name and kind, the labels it offers, and the image that it belongs to.

    score_threshold     the tag's `model_score_threshold`: its pre-labels need a higher score; None if it has none
    """

    name: str
    tag: str
    to_name: str
    labels: tuple[str, ...]
    score_threshold: float | None = None

    @property
    def region_type(self) -> str:
        """What Label Studio calls a region of this control, in its type and in its value's key."""
        return self.tag.lower()


@dataclass(frozen=True)
class LabelConfig:
    """The part of a labelling config that matters here.

    image_key   key of a task's data that holds the image's address
    controls    preferred first; `predicted_values` maps a model's class name to a label
    has_smart_tool  whether a tool asks for outlines of what is drawn with it (`smart="true"`)
    """

    image_key: str
    controls: tuple[Control, ...]
    predicted_values: dict[str, str]
    has_smart_tool: bool = False

    @property
    def classes(self) -> tuple[str, ...]:
        """All labels, each once, in the order of the config's preferred controls."""
        return tuple(dict.fromkeys(label for control in self.controls for label in control.labels))

    def control_for(self, label: str) -> Control | None:
        """The preferred control that offers a label."""
        return next((control for control in self.controls if label in control.labels), None)

    def label_for(self, class_name: str) -> str | None:
        """The label that a model's class stands for: by name, then by `predicted_values`."""
        return class_name if class_name in self.classes else self.predicted_values.get(class_name)


def polygon_config(labels: Sequence[str]) -> str:
    """A labelling config (XML) with an image and one polygon control for those labels."""
    rows = [
        f"    <Label value={quoteattr(label)} background={quoteattr(COLOURS[index % len(COLOURS)])}/>"
        for index, label in enumerate(labels)
    ]
    head = '<View>\n  <Image name="image" value="$image" zoom="true"/>\n  <PolygonLabels name="label" toName="image">'
    return "\n".join([head, *rows, "  </PolygonLabels>\n</View>"])


def parse_label_config(xml: str) -> LabelConfig:
    """Read a labelling config; BadLabelConfig says which tag is missing."""
    try:
        parsed: dict[str, dict[str, Any]] = parse_config(xml)
    except (ValueError, KeyError, LabelStudioXMLSyntaxErrorSentryIgnored) as err:
        raise BadLabelConfig(
            f"the labelling config is not valid XML or lacks an attribute ({err}); mend it in the project's settings"
        ) from err
    candidates = [(name, tag) for name, tag in parsed.items() if tag["type"] in CONTROL_TAGS]
    if not candidates:
        raise BadLabelConfig(
            f"the labelling config needs a {', '.join(CONTROL_TAGS[:-1])} or {CONTROL_TAGS[-1]} control, got "
            f"{', '.join(sorted({tag['type'] for tag in parsed.values()})) or 'no control at all'}; add one in the "
            "project's settings under Labeling Interface"
        )
    images = [i for _, tag in candidates for i in tag["inputs"] if i["type"] == "Image" and i.get("value")]
    if not images:
        raise BadLabelConfig(
            'the labelling config has no Image that its controls point to; add <Image name="image" value="$image"/> '
            'and toName="image" in the project\'s settings under Labeling Interface'
        )
    image_key = images[0]["value"]
    elements = list(ElementTree.fromstring(xml).iter())
    thresholds = _score_thresholds(elements)
    controls = tuple(
        Control(name, tag["type"], tag["to_name"][0], tuple(tag["labels"]), thresholds.get(name))
        for name, tag in sorted(candidates, key=lambda item: CONTROL_TAGS.index(item[1]["type"]))
        if any(i.get("value") == image_key for i in tag["inputs"])
    )
    if not any(control.labels for control in controls):
        raise BadLabelConfig(
            "the labelling config's controls hold no Label; add at least one in the project's settings"
        )
    has_smart_tool = any("true" in (element.get("smart"), element.get("smartOnly")) for element in elements)
    return LabelConfig(image_key, controls, _predicted_values(candidates), has_smart_tool)


def _score_thresholds(elements: Sequence[ElementTree.Element]) -> dict[str, float]:
    """`model_score_threshold` by the control's name, which the SDK's parser leaves out."""
    thresholds = {}
    for element in elements:
        text = element.get("model_score_threshold")
        if text is None:
            continue
        try:
            value = float(text)
        except ValueError:
            value = -1
        if not 0 <= value <= 1:
            raise BadLabelConfig(
                f"model_score_threshold of the tag {element.get('name')!r} must be a number from 0 to 1, got {text!r}; "
                "correct it in the project's settings under Labeling Interface"
            )
        thresholds[str(element.get("name"))] = value
    return thresholds


def _predicted_values(candidates: Sequence[tuple[str, dict[str, Any]]]) -> dict[str, str]:
    mapping = {}
    for _, tag in candidates:
        for label, attributes in tag["labels_attrs"].items():
            for value in attributes.get("predicted_values", "").split(","):
                if value.strip():
                    mapping[value.strip()] = label
    return mapping
