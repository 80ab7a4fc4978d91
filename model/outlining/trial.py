"""Who answers boxes better: outliners asked about annotated objects, in boxes as somebody would draw them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from model.errors import NoOutline
from model.geometry import box_of, polygons_to_mask
from model.outlining.base import Outliner
from model.records import Record

LOOSE = 0.08
"""A drawn box leaves up to this share of its object's sides free on each side."""

IMAGES, AN_IMAGE = 20, 4
"""Images that are asked about, and objects of each, at most."""

LEAST_OBJECTS = 8
"""Fewer say nothing."""

SMALLEST_PX = 6
"""Shorter side of the smallest object that is asked about."""


def loose_box(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The box (4,) that somebody draws around an object (h, w) bool: a little too large, within the image."""
    box = box_of(mask)
    sides = np.tile(box[2:] - box[:2], 2)
    drawn = box + sides * rng.uniform(0, LOOSE, 4) * (-1, -1, 1, 1)
    height, width = mask.shape
    return np.asarray(drawn.clip(0, (width, height, width, height)))


def iou_of_answers(
    outliners: Mapping[str, Outliner], records: Sequence[Record], load: Callable[[Record], np.ndarray], seed: int
) -> dict[str, Any] | None:
    """Each outliner's mean IoU with the annotated objects, by its name, and the number of `objects`.

    No answer counts as 0. None where there are too few objects to tell.
    """
    rng = np.random.default_rng(seed)
    shown = [records[index] for index in rng.permutation(len(records)) if records[index].outlines]
    ious: dict[str, list[float]] = {name: [] for name in outliners}
    for record in shown[:IMAGES]:
        asked = _asked(record, rng)
        if not asked:
            continue
        image = load(record)
        for name, outliner in outliners.items():
            seen = outliner.look(image)
            ious[name] += [_iou(outliner, seen, mask, box) for mask, box in asked]
    objects = min(map(len, ious.values()), default=0)
    if objects < LEAST_OBJECTS:
        return None
    return {"objects": objects, **{name: round(float(np.mean(values)), 4) for name, values in ious.items()}}


def _asked(record: Record, rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Some objects of an image, as masks (h, w) bool, and the boxes (4,) around them."""
    chosen = []
    for index in rng.permutation(len(record.outlines)):
        mask = polygons_to_mask(record.outlines[index].parts, record.size_hw)
        if mask.any() and (box_of(mask)[2:] - box_of(mask)[:2]).min() >= SMALLEST_PX:
            chosen.append((mask, loose_box(mask, rng)))
        if len(chosen) == AN_IMAGE:
            break
    return chosen


def _iou(outliner: Outliner, seen: Any, mask: np.ndarray, box_xyxy: np.ndarray) -> float:
    try:
        found = outliner.in_box(seen, box_xyxy, None)
    except NoOutline:
        return 0.0
    return float((found & mask).sum() / (found | mask).sum())
