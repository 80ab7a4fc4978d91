"""What the annotated images say about training on them: input size, anchors, objects in one, length, repetition."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from model.engines.config import InputRange
from model.records import Record
from model.scaling import scaled_size

LEVELS = 5
"""Feature levels with anchors, each half as fine as the one before."""

SMALLEST_ANCHOR = 4.0
THINNEST = 0.5
"""What is narrower, in pixels of the image, is no object."""

STEP = 1.25
"""Input sizes are this factor apart."""

MOST_OBJECTS = 800
"""Looked for in one image at most, whatever is annotated: each costs time and memory."""

IMAGES = 30
"""Images for which a network's iterations are meant."""


GROWTH, GROWTH_FOR_CLASSES = 0.5, 0.75
"""Power by which iterations grow with the images from IMAGES on: to outline objects, and to tell classes apart."""

MOST_REPEATED = 2.0


def object_sides(records: Sequence[Record]) -> np.ndarray:
    """Side of each object's box (n,), the square root of its area, as a share of its image's shortest side.

    Boxes end where the image does; without those that can cover half of no pixel, as nobody learns from them.
    """
    sides = []
    for record in records:
        for outline in record.outlines:
            points = np.concatenate([part.exterior for part in outline.parts])
            width, height = np.ptp(np.clip(points, 0, record.size_hw[::-1]), axis=0)
            if min(width, height) >= THINNEST:
                sides.append(math.sqrt(width * height) / min(record.size_hw))
    return np.array(sides, float)


def input_size(records: Sequence[Record], known: InputRange) -> tuple[int, int]:
    """Shortest and longest side of the input, pixels: large enough that nine objects of ten are visible.

    Never below the network's usual size, nor beyond twice the photos' own, nor above what is affordable. In steps of
    a quarter, so that a few more annotations do not change it.
    """
    sides = object_sides(records)
    if not len(sides):
        return known.shortest, known.longest
    original = np.median([record.size_hw for record in records], axis=0)
    usual = scaled_size((round(original[0]), round(original[1])), known.shortest, known.longest)
    wanted = known.visible / (float(np.quantile(sides, 0.1)) * min(usual))
    factor = max(1.0, min(wanted, 2 * original.min() / min(usual), known.largest / max(usual)))
    if factor < STEP:
        return known.shortest, known.longest
    factor = STEP ** math.floor(math.log(factor) / math.log(STEP) + 1e-9)
    return _even(known.shortest * factor), min(_even(known.longest * factor), known.largest)


def anchor_sizes(records: Sequence[Record], size: tuple[int, int], known: InputRange) -> tuple[float, ...]:
    """Side of the anchors of each feature level, pixels of the input: from the smallest to the largest objects.

    Octaves from the usual smallest anchor or that of the small objects on; further apart where that does not reach the
    large ones.
    """
    usual = tuple(known.anchor * 2.0**level for level in range(LEVELS))
    sides = []
    for record in records:
        shortest = min(scaled_size(record.size_hw, *size))
        sides.append(object_sides([record]) * shortest)
    pixels = np.concatenate(sides) if sides else np.zeros(0)
    if not len(pixels):
        return usual
    first = min(known.anchor, max(SMALLEST_ANCHOR, float(np.quantile(pixels, 0.05))))
    first = 2.0 ** (math.floor(2 * math.log2(first) + 1e-9) / 2)  # half octaves, for the same reason
    last = float(np.quantile(pixels, 0.95))
    growth = 2.0 if last <= first * 2**LEVELS else (last / first) ** (1 / (LEVELS - 1))
    return tuple(round(first * growth**level, 1) for level in range(LEVELS))


def objects_per_image(records: Sequence[Record], usual: int) -> int:
    """How many objects of an image are looked for: at least twice as many as any annotated image has.

    Doubled from the usual number on, so that a few more annotations do not change it, up to MOST_OBJECTS.
    """
    most = max((len(record.outlines) for record in records), default=0)
    objects = usual
    while objects < min(2 * most, MOST_OBJECTS):
        objects *= 2
    return objects


def iterations_for(images: int, base: int, growth: float = GROWTH) -> int:
    """Training iterations for so many images, where `base` is right for 30 or fewer."""
    return round(base * max(1.0, images / IMAGES) ** growth)


def repeat_factor(records: Sequence[Record]) -> float:
    """How often images of the rarest class are shown: as LVIS does it with the median class as its threshold, 1..2."""
    counts = Counter(label for record in records for label in {outline.label for outline in record.outlines})
    if not counts:
        return 1.0
    return min(MOST_REPEATED, max(1.0, math.sqrt(float(np.median(list(counts.values()))) / min(counts.values()))))


def _even(pixels: float) -> int:
    return 2 * round(pixels / 2)
