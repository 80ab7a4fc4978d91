"""From Label Studio's annotations to training records."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from label_studio_sdk.converter import brush

from backend.label_studio.labels import SHAPE_TAGS, UNREAD_TAGS, Control, LabelConfig
from model.errors import BadRecord
from model.geometry import mask_to_polygons, painted_polygons
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
    regions, problems = _regions(annotation, config)
    for key, drawn in regions.items():
        try:
            shape = drawn.shape(config)
            root = _root(key, regions, config)
            parts.setdefault(root, []).extend(READERS[shape.tag](drawn.result["value"], size_hw))
            roots.setdefault(root, drawn)
        except (BadRecord, KeyError, TypeError, ValueError) as err:
            problems.append(_left_out(drawn.result, annotation, err))
    scores = {root: drawn.result.get("score") if with_scores else None for root, drawn in roots.items()}
    outlines = (Outline(roots[root].label(config), tuple(p), scores[root]) for root, p in parts.items() if p)
    return tuple(outlines), tuple(problems)


def unread_regions(annotation: Annotation, config: LabelConfig) -> tuple[str, ...]:
    """One line for each region that cannot be used, as far as that shows without the image and without its masks."""
    regions, problems = _regions(annotation, config)
    for drawn in regions.values():
        try:
            CHECKS[drawn.shape(config).tag](drawn.result["value"])
            drawn.label(config)
        except (BadRecord, KeyError, TypeError, ValueError) as err:
            problems.append(_left_out(drawn.result, annotation, err))
    return tuple(problems)


def doubts_about(annotation: Annotation, config: LabelConfig) -> tuple[str, ...]:
    """One line for each region with several labels, and one if something is drawn on other images or pages."""
    lines = []
    for drawn in _regions(annotation, config)[0].values():
        others = [name for name in drawn.labels if name in config.classes][1:]
        if others:
            lines.append(
                f"region {drawn.result.get('id')} of annotation {annotation.get('id')} has the labels "
                f"{', '.join(drawn.labels)}; it counts as {drawn.label(config)}; leave one"
            )
    elsewhere = {r.get("id") for r in annotation["result"] if _is_shape(r, config) and not _is_here(r, config)}
    if elsewhere:
        lines.append(
            f"{len(elsewhere)} regions of annotation {annotation.get('id')} are not used: they lie on another image or "
            "page than the first"
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


def _regions(annotation: Annotation, config: LabelConfig) -> tuple[dict[Any, Drawn], list[str]]:
    """The regions on this image by their ids (by a place of its own where a result has none), and what is none."""
    results: dict[Any, list[Region]] = {}
    for number, result in enumerate(annotation["result"]):
        if _is_shape(result, config) and _is_here(result, config):
            key = (number,) if result.get("id") is None else result["id"]
            results.setdefault(key, []).append(result)
    regions, problems = {}, []
    for key, same in results.items():
        names = dict.fromkeys(name for result in same for name in _names(result, config))
        rank = {name: place for place, name in enumerate(config.classes)}
        labels = tuple(sorted(names, key=lambda name: rank.get(name, len(rank))))
        shapes = [result for result in same if _kind(result, config) != "labels"]
        if shapes:
            regions[key] = Drawn(min(shapes, key=lambda result: _preference(result, config)), labels)
        else:
            problems.append(_left_out(same[0], annotation, BadRecord("it has a label and no shape; draw it again")))
    return regions, problems


def _is_shape(result: Region, config: LabelConfig) -> bool:
    """Whether a result is, or may be, about something drawn on an image."""
    kind, name = _kind(result, config), str(result.get("from_name"))
    if kind is None or kind in NO_SHAPES:
        return "from_name" in result and kind is None
    tag = config.tags.get(name)
    if tag in UNREAD_TAGS:  # a point or a line says that there is an object only if it is of a class
        return any(label in config.classes for label in _names(result, config))
    if tag in SHAPE_TAGS and all(control.name != name for control in config.controls):
        return False  # a shape that can have no label is of no class
    return tag is None or tag.lower() not in NO_SHAPES


def _is_here(result: Region, config: LabelConfig) -> bool:
    """Whether a result is about the first image, and not about another object of the task or another page."""
    target = result.get("to_name")
    return (target in config.image_names or target not in config.object_names) and not result.get("item_index")


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
    """Names of the labels that a result gives its region."""
    names = (result.get("value") or {}).get(_kind(result, config)) or []
    return [str(name) for name in names] if isinstance(names, list) else []


def _left_out(result: Region, annotation: Annotation, err: Exception) -> str:
    """The line that tells of a region that cannot be used."""
    reason = str(err) if isinstance(err, BadRecord) else f"its {type(err).__name__} {err} does not fit its kind"
    kind = "" if isinstance(err, BadRecord) else f" ({result.get('type')})"
    return f"region {result.get('id')} of annotation {annotation.get('id')} is left out: {reason}{kind}"


def read_rectangle(region: Region, size_hw: tuple[int, int]) -> np.ndarray:
    """The corners (4, 2) of a rectangle region in pixels of an image of that size; BadRecord if it is empty."""
    return _rectangle(region["value"], size_hw)[0].exterior


def _polygon(value: dict[str, Any], size_hw: tuple[int, int]) -> list[Polygon]:
    """What Label Studio paints: all that the outline winds around, so that crossing itself makes no hole."""
    ring = np.asarray(value["points"], float).reshape(-1, 2) * np.array([size_hw[1], size_hw[0]]) / 100
    return list(painted_polygons(Polygon(ring).exterior, size_hw))


def _brush(value: dict[str, Any], size_hw: tuple[int, int]) -> list[Polygon]:
    _has_rle(value)
    flat = brush.decode_rle(value["rle"])
    if flat.size != size_hw[0] * size_hw[1] * 4:
        raise BadRecord(
            f"its brush mask holds {flat.size // 4} pixels, the image {size_hw[0] * size_hw[1]}; draw it again"
        )
    return list(mask_to_polygons(flat.reshape(*size_hw, 4)[..., 3] > 0, tolerance_px=0))


def _bitmask(value: dict[str, Any], size_hw: tuple[int, int]) -> list[Polygon]:
    """What is not transparent in a PNG (`data:image/png;base64,...`); in one without transparency what is not black."""
    content = np.frombuffer(_png(value), np.uint8)
    pixels = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if content.size else None
    if pixels is None:
        raise BadRecord("its bitmask is no image that can be read; draw it again")
    if pixels.shape[:2] != size_hw:
        raise BadRecord(
            f"its bitmask has {pixels.shape[1]} x {pixels.shape[0]} px, the image {size_hw[1]} x {size_hw[0]}; "
            "draw it again"
        )
    layers = pixels[..., None] if pixels.ndim == 2 else pixels
    alpha = layers[..., 3] if layers.shape[2] == 4 else None
    painted = layers[..., :3].any(2) if alpha is None or alpha.min() == np.iinfo(alpha.dtype).max else alpha > 0
    return list(mask_to_polygons(painted, tolerance_px=0))


def _png(value: dict[str, Any]) -> bytes:
    head, _, coded = str(value["imageDataURL"]).partition(",")
    if not head.startswith("data:image/") or not head.endswith(";base64"):
        raise BadRecord("its bitmask is no data:image/png;base64 address; draw it again")
    try:
        return base64.b64decode(coded, validate=True)
    except binascii.Error as err:
        raise BadRecord(f"its bitmask is no base64 ({err}); draw it again") from err


def _ellipse(value: dict[str, Any], size_hw: tuple[int, int]) -> list[Polygon]:
    """A polygon of so many corners that it lies nowhere more than ELLIPSE_PX inside of the ellipse."""
    scale = np.array([size_hw[1], size_hw[0]]) / 100
    radii = np.array([float(value["radiusX"]), float(value["radiusY"])]) * scale
    if not radii.all():
        raise BadRecord(
            f"its ellipse has the radii {value['radiusX']} and {value['radiusY']} %; delete it or draw it larger"
        )
    corners = max(12, math.ceil(math.pi / math.acos(max(0.0, 1 - ELLIPSE_PX / np.abs(radii).max()))))
    turns = np.arange(corners) * 2 * math.pi / corners
    points = np.stack([np.cos(turns), np.sin(turns)], 1) * radii
    return [Polygon(points @ _turn(value) + np.array([value["x"], value["y"]], float) * scale)]


def _rectangle(value: dict[str, Any], size_hw: tuple[int, int]) -> list[Polygon]:
    scale = np.array([size_hw[1], size_hw[0]]) / 100
    width, height = value["width"], value["height"]
    if not width or not height:  # one that was drawn upwards has a height below 0
        raise BadRecord(f"its rectangle is {width} by {height} %; delete it or draw it larger")
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], float) * scale
    return [Polygon(corners @ _turn(value) + np.array([value["x"], value["y"]], float) * scale)]


def _turn(value: dict[str, Any]) -> np.ndarray:
    """The matrix (2, 2) that turns rows of points by a value's `rotation`, degrees clockwise."""
    angle = math.radians(value.get("rotation") or 0)
    return np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])


ELLIPSE_PX = 0.05

READERS: dict[str, Callable[[dict[str, Any], tuple[int, int]], list[Polygon]]] = {
    "PolygonLabels": _polygon,
    "BrushLabels": _brush,
    "BitmaskLabels": _bitmask,
    "RectangleLabels": _rectangle,
    "EllipseLabels": _ellipse,
}

ANY_SIZE = (100, 100)


def _has_rle(value: dict[str, Any]) -> None:
    if not isinstance(value["rle"], list) or not value["rle"]:
        raise BadRecord("its brush mask is empty; draw it again or delete it")


CHECKS: dict[str, Callable[[dict[str, Any]], object]] = {
    "PolygonLabels": lambda value: Polygon(np.asarray(value["points"], float).reshape(-1, 2)),
    "BrushLabels": _has_rle,
    "BitmaskLabels": _png,
    "RectangleLabels": lambda value: _rectangle(value, ANY_SIZE),
    "EllipseLabels": lambda value: _ellipse(value, ANY_SIZE),
}
"""What can be said of a region's value without its image, at little cost."""
