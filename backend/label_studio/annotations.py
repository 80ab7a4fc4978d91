"""From Label Studio's annotations to training records."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from backend.counted import counted
from backend.label_studio.labels import SHAPE_TAGS, UNREAD_TAGS, Control, LabelConfig
from backend.label_studio.shapes import CHECKS, READERS, UNREADABLE
from model.errors import BadRecord
from model.records import Outline, Polygon

NO_SHAPES = frozenset(
    (
        *("choices", "datetime", "number", "pairwise", "ranker", "rating", "relation", "taxonomy", "textarea"),
        *("chat", "chatmessage", "hypertextlabels", "paragraphlabels", "reactcode", "timelinelabels"),
        *("timeserieslabels", "videorectangle"),
    )
)
"""Types of results that outline nothing; whatever is neither one of them nor understood may be an object."""

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

    A region is all results of one id; regions tied by `parentID` are parts of one object if they have the same label.
    What lies on another image or another page is not of this one. Label Studio stores what is drawn on a turned image
    (`image_rotation`) as on the image itself. Annotations keep the scores of the predictions that they began as, which
    are read `with_scores` only.
    """
    parts: dict[Any, list[Polygon]] = {}
    roots: dict[Any, Drawn] = {}
    regions, problems = regions_drawn(annotation, config)
    for key, drawn in regions.items():
        try:
            shape = drawn.shape(config)
            root = _root(key, regions, config)
            if shape.tag == "BrushLabels" and _is_of_turned_image(drawn.result, size_hw):
                raise BadRecord(f"its brush mask {_turned(size_hw)}; turn the image back or draw the region again")
            parts.setdefault(root, []).extend(READERS[shape.tag](drawn.result["value"], size_hw))
            roots.setdefault(root, drawn)
        except UNREADABLE as err:
            problems.append(_left_out(drawn.result, annotation, err))
    scores = {root: drawn.result.get("score") if with_scores else None for root, drawn in roots.items()}
    outlines = (Outline(roots[root].label(config), tuple(p), scores[root]) for root, p in parts.items() if p)
    return tuple(outlines), tuple(problems)


def labels_of_objects(annotation: Annotation, config: LabelConfig) -> tuple[str, ...]:
    """The label of each object of an annotation, as far as that shows without the image; see `read_outlines`."""
    labels = {}
    regions, _ = regions_drawn(annotation, config)
    for key, drawn in regions.items():
        with suppress(BadRecord):
            drawn.shape(config)
            labels[_root(key, regions, config)] = drawn.label(config)
    return tuple(labels.values())


def unread_regions(annotation: Annotation, config: LabelConfig) -> tuple[str, ...]:
    """One line for each region that cannot be used, as far as that shows without the image and without its masks."""
    regions, problems = regions_drawn(annotation, config)
    for drawn in regions.values():
        try:
            CHECKS[drawn.shape(config).tag](drawn.result["value"])
            drawn.label(config)
        except UNREADABLE as err:
            problems.append(_left_out(drawn.result, annotation, err))
    return tuple(problems)


def doubts_about(annotation: Annotation, config: LabelConfig, size_hw: tuple[int, int]) -> tuple[str, ...]:
    """What is read and may not be meant, a line each.

    Regions with several labels, what is drawn on other images or pages, and on this one before it was turned.
    """
    lines = []
    regions = regions_drawn(annotation, config)[0].values()
    turned = [drawn for drawn in regions if _is_of_turned_image(drawn.result, size_hw)]
    if turned:
        lines.append(
            f"{counted(len(turned), 'region')} of annotation {annotation.get('id')}: what was drawn "
            f"{_turned(size_hw)}; look whether they lie right, and if not turn the image back"
        )
    for drawn in regions:
        others = [name for name in drawn.labels if name in config.classes][1:]
        if others:
            lines.append(
                f"region {drawn.result.get('id')} of annotation {annotation.get('id')} has the labels "
                f"{', '.join(drawn.labels)}; it counts as {drawn.label(config)}; leave one"
            )
    elsewhere = {r.get("id") for r in annotation["result"] if _is_shape(r, config) and _is_on_another_image(r, config)}
    if elsewhere:
        lies = "is not used: it lies" if len(elsewhere) == 1 else "are not used: they lie"
        lines.append(
            f"{counted(len(elsewhere), 'region')} of annotation {annotation.get('id')} {lies} on another image or page "
            "than the first"
        )
    return tuple(lines)


@dataclass(frozen=True, eq=False)
class Drawn:
    """One region: the result with its shape, and the names of all labels that the results of its id give it.

    The labels stand in the order of the labelling config, those that it does not offer last.
    """

    result: Region
    labels: tuple[str, ...]

    def shape(self, config: LabelConfig) -> Control:
        """The control that it was drawn with; BadRecord if that takes no instance."""
        name, kind = self.result.get("from_name"), self.result.get("type")
        control = next((c for c in config.controls if c.name == name), None)
        if control is not None:
            return control
        if name in config.tags:
            raise BadRecord(f"it is of the kind {kind}; draw it as a polygon, a box or an ellipse, or with the brush")
        known = ", ".join(dict.fromkeys(c.name for c in config.controls))
        raise BadRecord(
            f"it is of the control {name!r}, which the labelling config does not have; rename the control to one of "
            f"{known} where the annotation was made, or draw it again"
        )

    def label(self, config: LabelConfig) -> str:
        """The label that counts: the first of the labelling config; BadRecord if it has none of them."""
        if not self.labels or self.labels[0] not in config.classes:
            raise BadRecord(
                f"its label {', '.join(self.labels) or '(none)'} is not one of {', '.join(config.classes)}; "
                "choose a label of the config or add it there"
            )
        return self.labels[0]


def regions_drawn(annotation: Annotation, config: LabelConfig) -> tuple[dict[Any, Drawn], list[str]]:
    """The regions on this image by their ids (by a place of its own where a result has none), and what is none."""
    if annotation["result"] is None:  # which a program sent without one: it may say that there is nothing, or not
        mend = "submit it again, also where the image shows no object, or delete it"
        return {}, [f"annotation {annotation.get('id')} has no result, not even an empty one; {mend}"]
    results: dict[Any, list[Region]] = {}
    for number, result in enumerate(annotation["result"]):
        if _is_shape(result, config) and _is_here(result, config):
            key = (number,) if result.get("id") is None else result["id"]
            results.setdefault(key, []).append(result)
    regions, problems = {}, []
    for key, same in results.items():
        try:
            regions[key] = _drawn(same, config)
        except BadRecord as err:
            problems.append(_left_out(same[0], annotation, err))
    return regions, problems


def _drawn(results: Sequence[Region], config: LabelConfig) -> Drawn:
    """The region that all results of one id are; BadRecord if they are none, or several."""
    shapes = [result for result in results if _kind(result, config) != "labels"]
    if not shapes:
        raise BadRecord("it has a label and no shape; draw it again")
    if any(geometry(shape) != geometry(shapes[0]) for shape in shapes):
        raise BadRecord("two different shapes have this id, of which Label Studio shows one; give each its own")
    names = dict.fromkeys(name for result in results for name in _names(result, config))
    rank = {name: place for place, name in enumerate(config.classes)}
    labels = tuple(sorted(names, key=lambda name: rank.get(name, len(rank))))
    return Drawn(min(shapes, key=lambda result: _preference(result, config)), labels)


def _is_shape(result: Region, config: LabelConfig) -> bool:
    """Whether a result is, or may be, about something drawn on an image."""
    kind, name = _kind(result, config), str(result.get("from_name"))
    if kind is None or kind in NO_SHAPES:
        return "from_name" in result and kind is None
    tag = config.tags.get(name)
    if tag in UNREAD_TAGS:  # a point or a line says that there is an object only if it is of a class
        return any(label in config.classes for label in _names(result, config))
    is_nameless = tag in SHAPE_TAGS and all(control.name != name for control in config.controls)
    return not is_nameless  # a shape that can have no label is of no class


def _is_here(result: Region, config: LabelConfig) -> bool:
    """Whether a result is about the first image, and not about another object of the task or another page."""
    target = result.get("to_name")
    return (target in config.image_names or target not in config.object_names) and not result.get("item_index")


def _is_of_turned_image(result: Region, size_hw: tuple[int, int]) -> bool:
    """Whether a result tells the image's size with width and height exchanged, as before a photo was turned upright."""
    told = (result.get("original_height"), result.get("original_width"))
    return told == size_hw[::-1] != size_hw and not result.get("image_rotation")


def _turned(size_hw: tuple[int, int]) -> str:
    height, width = size_hw
    return f"is of an image of {height} x {width} px, which now has {width} x {height}"


def _is_on_another_image(result: Region, config: LabelConfig) -> bool:
    """Whether a result is about another image than the first, or another page of it."""
    return result.get("to_name") in config.other_images or bool(result.get("item_index"))


def geometry(result: Region) -> Any:
    """What a result's value says but for its labels."""
    value = result.get("value")
    return {k: v for k, v in value.items() if not k.endswith("labels")} if isinstance(value, dict) else value


def _preference(result: Region, config: LabelConfig) -> int:
    """Place of a result's control among the config's; those that are none of them come last."""
    names = [control.name for control in config.controls]
    name = result.get("from_name")
    return names.index(str(name)) if name in names else len(names)


def _root(key: Any, regions: Mapping[Any, Drawn], config: LabelConfig) -> Any:
    """Key of the object's first part: up the parents as long as the labels are the same."""
    label, seen = regions[key].label(config), {key}
    while (parent := regions[key].result.get("parentID")) in regions and parent not in seen:
        if regions[parent].labels[:1] != (label,):
            break
        seen.add(parent)
        key = parent
    return key


def _kind(result: Region, config: LabelConfig) -> str | None:
    """A result's type, which tools that write annotations leave out at times; then its control tells."""
    tag = config.tags.get(str(result.get("from_name")))
    return result.get("type") or (tag.lower() if tag else None)


def _names(result: Region, config: LabelConfig) -> list[str]:
    """Names of the labels that a result gives its region, as the labelling config calls them."""
    value = result.get("value")
    names = value.get(_kind(result, config)) if isinstance(value, dict) else None
    return [config.other_names.get(str(name), str(name)) for name in names] if isinstance(names, list) else []


def _left_out(result: Region, annotation: Annotation, err: Exception) -> str:
    """The line that tells of a region that cannot be used."""
    reason = str(err) if isinstance(err, BadRecord) else f"its {type(err).__name__} {err} does not fit its kind"
    kind = "" if isinstance(err, BadRecord) else f" ({result.get('type')})"
    return f"region {result.get('id')} of annotation {annotation.get('id')} is left out: {reason}{kind}"
