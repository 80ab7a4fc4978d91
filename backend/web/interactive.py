"""Smart boxes: from the box that an annotator has just drawn to the outline of the object in it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backend.errors import BadSetting
from backend.label_studio.annotations import Region, read_rectangle
from backend.label_studio.labels import LabelConfig
from backend.label_studio.predictions import mask_to_regions
from backend.rounds.scoring import smooth
from model.engines.base import Engine
from model.errors import BadRecord
from model.geometry import box_of

SMALLEST_BOX_PX = 2.0


@dataclass(frozen=True, eq=False)
class SmartBox:
    """A drawn box, before the image's size is known: its region and the label that was chosen for it."""

    region: Region
    label: str

    def on(self, size_hw: tuple[int, int]) -> np.ndarray:
        """The box (4,) in pixels of an image of that size, clipped to it; BadRecord if next to nothing is left."""
        corners = read_rectangle(self.region, size_hw)
        upper = np.array([size_hw[1], size_hw[0]])
        box = np.concatenate([corners.min(0).clip(0, upper), corners.max(0).clip(0, upper)])
        if (box[2:] - box[:2]).min() < SMALLEST_BOX_PX:
            raise BadRecord(f"the box is smaller than {SMALLEST_BOX_PX:g} px; draw it around the whole object")
        return box


def read_context(context: Mapping[str, Any], config: LabelConfig) -> SmartBox | None:
    """The box in what Label Studio sends with an interactive request; None if it is something else (a point, a text).

    Raises BadSetting if its label is not of the config.
    """
    regions = context.get("result")
    boxes = [r for r in regions if str(r.get("type")).startswith("rectangle")] if isinstance(regions, list) else []
    if not boxes:
        return None
    labels: Sequence[str] = boxes[-1].get("value", {}).get("rectanglelabels") or config.classes[:1]
    if labels[0] not in config.classes:
        raise BadSetting(f"the box's label {labels[0]!r} is not one of {', '.join(config.classes)}; reload the page")
    return SmartBox(boxes[-1], labels[0])


def outline_box(
    engine: Engine, features: Any, box: SmartBox, size_hw: tuple[int, int], config: LabelConfig
) -> list[Region]:
    """Regions of the object in a box, of the best control that offers its label; none where the network sees nothing.

    A label that the network has not learned yet is outlined as whatever the box seems to show.
    """
    box_xyxy = box.on(size_hw)
    known = [index for index, name in enumerate(engine.classes) if config.label_for(name) == box.label]
    mask = smooth(engine.segment(features, box_xyxy, known[0] if known else None), box_xyxy)
    if not mask.any():
        return []
    return mask_to_regions(mask, box_of(mask), box.label, config, secrets.token_urlsafe(7))
