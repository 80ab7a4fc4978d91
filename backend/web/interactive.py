"""Smart tools: what an annotator has just drawn with one, as Label Studio sends it.

Label Studio sends all regions of the same kind and label, those of earlier answers that were not accepted yet among
them. A point that was set with the smart tool says whether it is on the object (`is_positive`; not with Alt held down).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backend.errors import BadSetting
from backend.label_studio.annotations import Region
from backend.label_studio.labels import LabelConfig
from backend.label_studio.shapes import read_rectangle
from model.errors import BadRecord
from model.outlining.base import Click

SMALLEST_BOX_PX = 2.0


@dataclass(frozen=True, eq=False)
class SmartBox:
    """A drawn box, before the image's size is known: its region and the label that was chosen for it."""

    region: Region
    label: str

    def on(self, size_hw: tuple[int, int]) -> np.ndarray:
        """The box (4,) in pixels of an image of that size, clipped to it; BadRecord if next to nothing is left."""
        try:
            corners = read_rectangle(self.region, size_hw)
        except (LookupError, TypeError, ValueError) as err:
            raise BadRecord(
                f"the box {self.region.get('id')} has no x, y, width and height in percent of the image; draw it again"
            ) from err
        upper = np.array([size_hw[1], size_hw[0]])
        box = np.concatenate([corners.min(0).clip(0, upper), corners.max(0).clip(0, upper)])
        if (box[2:] - box[:2]).min() < SMALLEST_BOX_PX:
            raise BadRecord(f"the box is smaller than {SMALLEST_BOX_PX:g} px; draw it around the whole object")
        return box


@dataclass(frozen=True, eq=False)
class SmartPoints:
    """Clicks of one label: the regions of those on an object, oldest first, and of those beside it."""

    regions: tuple[Region, ...]
    beside: tuple[Region, ...]
    label: str

    def on(self, size_hw: tuple[int, int], side_px: float | None) -> list[Click]:
        """The clicks on an image of that size; `side_px` as in Click."""
        not_on = np.array([_place(region, size_hw) for region in self.beside]).reshape(-1, 2)
        return [Click(_place(region, size_hw), not_on, side_px) for region in self.regions]


def read_context(context: Mapping[str, Any], config: LabelConfig) -> SmartBox | SmartPoints | None:
    """The box or the points in what Label Studio sends with an interactive request; None if there is nothing.

    Raises BadSetting if it is something else, or if its label is not of the config.
    """
    sent = context.get("result")
    regions: list[Region] = [r for r in sent if isinstance(r, dict)] if isinstance(sent, list) else []
    shapes = [region for region in regions if region.get("type") != "labels"]
    if not shapes:
        return None
    newest, kind = shapes[-1], str(shapes[-1].get("type"))
    if newest.get("to_name") in config.object_names and newest.get("to_name") not in config.image_names:
        raise BadSetting(
            f"what was drawn on {newest.get('to_name')!r} is not answered: only the first image of a task, "
            f"{next(iter(config.image_names), '')!r}, is"
        )
    label = _label(newest, regions, config)
    if kind.startswith("rectangle"):
        return SmartBox(newest, label)
    if not kind.startswith("keypoint"):
        raise BadSetting(
            f"a smart tool of the kind {kind} is not answered, only rectangles and points are; give the labelling "
            'config RectangleLabels or KeyPointLabels with smart="true"'
        )
    asked = [shape for shape in shapes if "is_positive" in shape] or [newest]
    beside = tuple(shape for shape in asked if shape.get("is_positive") is False)
    return SmartPoints(tuple(shape for shape in asked if shape not in beside), beside, label)


def _label(region: Region, regions: Sequence[Region], config: LabelConfig) -> str:
    """The label of a region, also where a `Labels` tag gave it; the config's first where it has none."""
    values = [other.get("value") or {} for other in regions if other.get("id") == region.get("id")]
    names = [name for value in values for key, found in value.items() if key.endswith("labels") for name in found]
    label = str(names[0]) if names else config.classes[0]
    if label not in config.classes:
        raise BadSetting(
            f"the label {label!r} of what was drawn is not one of {', '.join(config.classes)}, which can be outlined; "
            "add it to the shapes of the labelling config, or reload the page if it is there"
        )
    return label


def _place(region: Region, size_hw: tuple[int, int]) -> np.ndarray:
    """A point (2,), x and y, in pixels of an image of that size."""
    try:
        percent = np.array([region["value"]["x"], region["value"]["y"]], float)
        if not np.isfinite(percent).all():
            raise ValueError(f"wanted two numbers, got {percent.tolist()}")
    except (KeyError, TypeError, ValueError) as err:
        raise BadRecord(f"the point {region.get('id')} has no x and y in percent of the image; set it again") from err
    return np.asarray(percent * (size_hw[1], size_hw[0]) / 100)
