"""What an annotator made of a pre-label: the regions that were kept, moved, relabelled, deleted and added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backend.label_studio.annotations import Drawn, geometry, regions_drawn
from backend.label_studio.labels import LabelConfig
from backend.label_studio.shapes import READERS, UNREADABLE
from model.geometry import polygons_to_mask

SAME_IOU = 0.995
"""From which on a region counts as untouched: Label Studio may write the same shape with other digits."""


@dataclass(frozen=True)
class Corrections:
    """Numbers of regions, and the mean IoU of those that are still there with what they were; None without any.

    A region that was both moved and given another label counts as relabelled.
    """

    kept: int
    moved: int
    relabelled: int
    deleted: int
    added: int
    iou: float | None

    @property
    def proposed(self) -> int:
        """Regions of the pre-label."""
        return self.kept + self.moved + self.relabelled + self.deleted


def corrections_of(
    proposed: Sequence[dict[str, Any]], submitted: Sequence[dict[str, Any]], config: LabelConfig
) -> Corrections:
    """Compare a prediction's regions with those of the annotation that began with it, by their ids."""
    before = regions_drawn({"result": list(proposed)}, config)[0]
    after = regions_drawn({"result": list(submitted)}, config)[0]
    common = [key for key in before if key in after]
    overlaps = [_overlap(before[key], after[key], config) for key in common]
    pairs = list(zip(common, overlaps, strict=True))
    relabelled = sum(before[key].labels != after[key].labels for key in common)
    kept = sum(before[key].labels == after[key].labels and iou is not None and iou >= SAME_IOU for key, iou in pairs)
    measured = [iou for iou in overlaps if iou is not None]
    return Corrections(
        kept=kept,
        moved=len(common) - kept - relabelled,
        relabelled=relabelled,
        deleted=len(before) - len(common),
        added=len(after) - len(common),
        iou=round(float(np.mean(measured)), 4) if measured else None,
    )


def _overlap(before: Drawn, after: Drawn, config: LabelConfig) -> float | None:
    """Mask IoU of a region with what became of it; None where one of the two cannot be read."""
    if geometry(before.result) == geometry(after.result):
        return 1.0
    try:
        size_hw = int(after.result["original_height"]), int(after.result["original_width"])
        one, other = (_mask(drawn, size_hw, config) for drawn in (before, after))
    except UNREADABLE:
        return None
    union = int((one | other).sum())
    return float((one & other).sum()) / union if union else None


def _mask(drawn: Drawn, size_hw: tuple[int, int], config: LabelConfig) -> np.ndarray:
    return polygons_to_mask(READERS[drawn.shape(config).tag](drawn.result["value"], size_hw), size_hw)
