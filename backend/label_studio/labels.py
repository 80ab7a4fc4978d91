"""A project's labelling config: which controls take shapes, on which image, with which labels."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from label_studio_sdk._extensions.label_studio_tools.core.label_config import parse_config
from label_studio_sdk._extensions.label_studio_tools.core.utils.exceptions import (
    LabelStudioXMLSyntaxErrorSentryIgnored,
)

from backend.errors import BadLabelConfig
from backend.label_studio.image_values import ImageValue, first_image
from backend.label_studio.label_attributes import other_names, predicted_values, score_thresholds

CONTROL_TAGS = ("PolygonLabels", "BrushLabels", "BitmaskLabels", "RectangleLabels", "EllipseLabels")
"""Controls that take an instance, the preferred first."""

SHAPE_TAGS = {
    "Polygon": "PolygonLabels",
    "Brush": "BrushLabels",
    "MagicWand": "BrushLabels",
    "Bitmask": "BitmaskLabels",
    "Rectangle": "RectangleLabels",
    "Ellipse": "EllipseLabels",
}
"""Shapes without labels of their own, which `Labels` beside them give, and the control that has both."""

UNREAD_TAGS = ("VectorLabels", "Vector", "KeyPointLabels", "KeyPoint")
"""What is drawn on an image as well, and outlines nothing that could be learned."""

ANSWERED_TAGS = ("RectangleLabels", "Rectangle", "KeyPointLabels", "KeyPoint")
"""Smart tools that are answered: a box and a click."""

COLOURS = ("#2ca02c", "#d62728", "#ff7f0e", "#1f77b4", "#9467bd", "#8c564b", "#e377c2", "#bcbd22", "#17becf")


@dataclass(frozen=True)
class Control:
    """What takes an instance: its name and kind, the labels it offers, and the image that it belongs to.

    tag                 of CONTROL_TAGS: the kind of shape, also where the labels come from a tag beside it
    score_threshold     the tag's `model_score_threshold`: its pre-labels need a higher score; None if it has none
    labels_name         name of the `Labels` tag beside a shape that has no labels of its own
    shape_tag           that shape's own tag, such as Polygon
    """

    name: str
    tag: str
    to_name: str
    labels: tuple[str, ...]
    score_threshold: float | None = None
    labels_name: str | None = None
    shape_tag: str | None = None

    @property
    def region_type(self) -> str:
        """What Label Studio calls a region of this control, in its type and, if it has labels, in its value's key."""
        return (self.shape_tag or self.tag).lower()


@dataclass(frozen=True)
class LabelConfig:
    """The part of a labelling config that matters here.

    image_value  where a task's data holds the image's address
    image_names  names of the Image tags that show it; regions on other objects are not this image's
    other_images  names of the other Image tags
    object_names  names of all objects of a task: images, texts and so on
    controls    preferred first; `predicted_values` maps a model's class name to a label
    other_names  labels by what else the editor takes for them: the value of one with an alias
    has_smart_tool  whether a tool asks for outlines of what is drawn with it (`smart="true"`)
    tags        tag of each control by its name, also of those that take no instance
    remarks     one line for each thing in the config that is not used, or that invites what cannot be learned
    """

    image_value: ImageValue
    controls: tuple[Control, ...]
    predicted_values: dict[str, str]
    has_smart_tool: bool = False
    image_names: tuple[str, ...] = ()
    other_images: tuple[str, ...] = ()
    object_names: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    other_names: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """All labels, each once, in the order of the config's preferred controls."""
        return tuple(dict.fromkeys(label for control in self.controls for label in control.labels))

    def control_for(self, label: str) -> Control | None:
        """The preferred control that offers a label."""
        return next((control for control in self.controls if label in control.labels), None)

    def label_for(self, class_name: str) -> str | None:
        """The label that a model's class stands for: by name, then by `predicted_values`, then by another name."""
        if class_name in self.classes:
            return class_name
        return self.predicted_values.get(class_name) or self.other_names.get(class_name)


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
    parsed = _parsed(xml)
    elements = list(ElementTree.fromstring(xml).iter())
    candidates = _candidates(parsed)
    image_value, image_names = first_image(elements, {name for c in candidates for name in _targets(parsed[c.name])})
    _require_own_labels(elements, image_names)
    controls = _on_image(candidates, parsed, image_names, score_thresholds(elements))
    labelled = [tag for tag in parsed.values() if tag["type"] in (*CONTROL_TAGS, "Labels")]
    seen = (elements, controls, image_names)
    return LabelConfig(
        image_value,
        controls,
        predicted_values(labelled),
        has_smart_tool=any(_smartness(element) for element in elements),
        image_names=image_names,
        other_images=tuple(
            str(e.get("name")) for e in elements if e.tag == "Image" and e.get("name") not in image_names
        ),
        object_names=tuple(str(e.get("name")) for e in elements if e.get("name") and not e.get("toName")),
        tags={name: str(tag["type"]) for name, tag in parsed.items()},
        other_names=other_names(labelled, {label for control in controls for label in control.labels}),
        remarks=(*_unused(*seen), *_invitations(*seen), *_smart_remarks(*seen)),
    )


def _parsed(xml: str) -> dict[str, dict[str, Any]]:
    """The tags that take annotations, by name, as Label Studio's SDK reads them."""
    try:
        return parse_config(xml)
    except (ValueError, KeyError, LabelStudioXMLSyntaxErrorSentryIgnored) as err:
        raise BadLabelConfig(
            f"the labelling config is not valid XML or lacks an attribute ({err}); mend it in the project's settings"
        ) from err


def _candidates(parsed: Mapping[str, dict[str, Any]]) -> list[Control]:
    """The controls on any object; BadLabelConfig if there is none."""
    found = [control for name in parsed for control in _controls(name, parsed)]
    if not found:
        got = ", ".join(sorted({str(tag["type"]) for tag in parsed.values()})) or "no control at all"
        raise BadLabelConfig(
            f"the labelling config needs a {', '.join(CONTROL_TAGS[:-1])} or {CONTROL_TAGS[-1]} control, got {got}; "
            "add one in the project's settings under Labeling Interface"
        )
    return found


def _on_image(
    candidates: Sequence[Control], parsed: Mapping[str, Any], image_names: Collection[str], scores: Mapping[str, float]
) -> tuple[Control, ...]:
    """Those that draw on the image, the preferred first; BadLabelConfig if none of them has a label."""
    controls = []
    for control in sorted(candidates, key=lambda c: (CONTROL_TAGS.index(c.tag), c.labels_name is not None)):
        if shown := [name for name in _targets(parsed[control.name]) if name in image_names]:
            score = scores.get(control.labels_name or control.name)
            controls.append(replace(control, to_name=shown[0], score_threshold=score))
    if not any(control.labels for control in controls):
        raise BadLabelConfig(
            "the labelling config's controls hold no Label; add at least one in the project's settings"
        )
    return tuple(controls)


def _controls(name: str, parsed: Mapping[str, dict[str, Any]]) -> Iterator[Control]:
    """The controls that a tag makes: itself, or a shape with the labels of each `Labels` tag on the same object."""
    tag = parsed[name]
    if tag["type"] in CONTROL_TAGS:
        yield Control(name, tag["type"], "", tuple(tag["labels"]))
    elif tag["type"] in SHAPE_TAGS:
        beside = [n for n, t in parsed.items() if t["type"] == "Labels" and set(_targets(t)) & set(_targets(tag))]
        for other in beside:
            labels = tuple(parsed[other]["labels"])
            yield Control(name, SHAPE_TAGS[tag["type"]], "", labels, labels_name=other, shape_tag=tag["type"])


def _targets(tag: Mapping[str, Any]) -> list[str]:
    """Names of the objects that a control belongs to (`toName="left, right"`)."""
    return [name.strip() for name in tag["to_name"]]


def _require_own_labels(elements: Sequence[ElementTree.Element], image_names: Collection[str]) -> None:
    """BadLabelConfig if a control takes its labels from the data of each task: the classes are then not known."""
    for element in elements:
        value = element.get("value") or ""
        is_used = element.tag in (*CONTROL_TAGS, "Labels") and _draws_on(element, image_names)
        if is_used and value.startswith("$"):
            raise BadLabelConfig(
                f"the {element.tag} {element.get('name')!r} takes its labels from each task's data (value={value!r}), "
                "and a network learns classes that are the same for all; write them as Label tags in the project's "
                "settings under Labeling Interface"
            )


def _unused(
    elements: Sequence[ElementTree.Element], controls: Sequence[Control], image_names: Collection[str]
) -> Iterator[str]:
    """One line for each image and control that is not used."""
    for element in elements:
        name = element.get("name")
        is_drawn = element.tag in (*CONTROL_TAGS, *SHAPE_TAGS, *UNREAD_TAGS)
        if element.tag == "Image" and name not in image_names:
            yield (
                f"the image {name!r} is not used: only the first one, {next(iter(image_names))!r}, is trained and "
                "pre-labelled; what is drawn on the other stays as it is"
            )
        elif is_drawn and not _draws_on(element, image_names):
            yield f"the {element.tag} {name!r} is not used: it draws on {', '.join(_drawn_on(element))}"
        elif element.tag in SHAPE_TAGS and all(control.name != name for control in controls):
            yield f"the {element.tag} {name!r} is not used: it has no labels, nor is there a Labels tag beside it"
        elif element.tag in UNREAD_TAGS and not (element.tag in ANSWERED_TAGS and _smartness(element)):
            yield (
                f"the {element.tag} {name!r} outlines nothing that can be learned; an image where it marks one of the "
                "classes does not count"
            )


def _invitations(
    elements: Sequence[ElementTree.Element], controls: Sequence[Control], image_names: Collection[str]
) -> Iterator[str]:
    """One line for each control, and for each group of them, that lets a region have two labels."""
    here = [element for element in elements if _draws_on(element, image_names)]
    for element in here:
        if element.tag in (*CONTROL_TAGS, *UNREAD_TAGS, "Labels") and element.get("choice") == "multiple":
            yield (
                f'the {element.tag} {element.get("name")!r} lets a region have several labels (choice="multiple"); of '
                'those the first in the labelling config counts; set choice="single"'
            )
    beside = [str(element.get("name")) for element in here if element.tag == "Labels"]
    own = {tag: [c.name for c in controls if c.tag == tag and c.labels_name is None] for tag in CONTROL_TAGS}
    groups = {(*names, *beside) for names in own.values() if names} or {tuple(beside)}
    for names in sorted(group for group in groups if len(group) > 1):
        yield (
            f"{' and '.join(names)} can each give a region of one kind a label; of several the first in the labelling "
            "config counts; put their labels into one"
        )


def _drawn_on(element: ElementTree.Element) -> list[str]:
    """The names in an element's `toName`."""
    return [name.strip() for name in element.get("toName", "").split(",") if name.strip()]


def _draws_on(element: ElementTree.Element, image_names: Collection[str]) -> bool:
    return any(name in image_names for name in _drawn_on(element))


def _smartness(element: ElementTree.Element) -> str | None:
    """`only` if a tool asks for outlines of all that is drawn with it, `also` if it does in Auto-Annotation."""
    given = {name.lower() for name, value in element.attrib.items() if value.lower() == "true"}
    return "only" if "smartonly" in given else "also" if "smart" in given else None


def _smart_remarks(
    elements: Sequence[ElementTree.Element], controls: Sequence[Control], image_names: Collection[str]
) -> Iterator[str]:
    """One line for each smart tool whose questions are not answered, and for points that may stay in an annotation."""
    offered = {label for control in controls for label in control.labels}
    for element in elements:
        name, smartness = element.get("name"), _smartness(element)
        if smartness is None or not name or not _draws_on(element, image_names):
            continue
        told = f'the {element.tag} {name!r} with smart{"Only" if smartness == "only" else ""}="true"'
        if element.tag not in ANSWERED_TAGS:
            yield (
                f"{told} gets no answers: only rectangles and points do; take the attribute away and give it to "
                "RectangleLabels or KeyPointLabels with the same labels"
            )
        elif element.tag in UNREAD_TAGS:
            yield from _point_remarks(element, told, offered)


def _point_remarks(element: ElementTree.Element, told: str, offered: Collection[str]) -> Iterator[str]:
    """Of a smart tool that sets points: labels that cannot be answered, and points that are no question."""
    names = [label.get("alias") or label.get("value") for label in element.iter("Label")]
    unknown = [name for name in names if name and name not in offered]
    if unknown:
        yield (
            f"{told} gets no answer for {', '.join(unknown)}, which no shape of the labelling config offers; "
            "add the same labels there"
        )
    if _smartness(element) == "also":
        yield (
            f"{told} also sets plain points while Auto-Annotation is off, which outline nothing; an image "
            'where one marks one of the classes does not count; write smartOnly="true"'
        )
