"""How well a drawn box and a click are answered before there is a version, and by a version's weights.

    python -m tests.benchmarks.first_boxes --data DIR --json first_boxes.json [--weights FILE ...] [--clicks]

On up to 200 objects each of leaves, leaf lesions, nuclei (`DIR/coffee_leaf`, `DIR/nuclei_dsb2018`) and generated fields:
the mean IoU of the answer with the object's mask, the share of objects without an answer, and milliseconds. A box is
drawn a little around its object, by up to 8 % of its sides; a click hits the object in its middle, where it is widest.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from backend.generated.broccoli import generate
from model.formats.coco import read
from model.geometry import box_of, polygons_to_mask
from model.image_files import decode_image

OBJECTS, SEED = 200, 7
LOOSE = 0.08
SMALLEST_SIDE_PX = 6

FILES = {
    "leaf": ("coffee_leaf", "annotations.json"),
    "lesions": ("coffee_leaf", "annotations_lesions.json"),
    "nuclei": ("nuclei_dsb2018", "annotations.json"),
}


@dataclass(frozen=True, eq=False)
class Asked:
    """An object on an image RGB uint8 (h, w, 3), and what an annotator draws to have its mask (h, w) bool."""

    image: np.ndarray
    mask: np.ndarray
    box_xyxy: np.ndarray
    point_xy: np.ndarray


def objects(data: Path, name: str) -> list[Asked]:
    """The objects of one set, the same ones each time, at most two an image."""
    rng = np.random.default_rng(SEED)
    asked: list[Asked] = []
    for image, masks in fields() if name == "fields" else annotated(data, *FILES[name], rng):
        usable = [mask for mask in masks if (box_of(mask)[2:] - box_of(mask)[:2]).min() >= SMALLEST_SIDE_PX]
        for index in rng.permutation(len(usable))[:2]:
            asked.append(Asked(image, usable[index], loose_box(usable[index], rng), middle(usable[index])))
        if len(asked) >= OBJECTS:
            break
    return asked[:OBJECTS]


def fields() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    return ((made.image, made.masks) for made in generate(OBJECTS, SEED))


def annotated(
    data: Path, folder: str, file: str, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    records = read(data / folder / file)
    for index in rng.permutation(len(records)):
        record = records[index]
        image = decode_image((data / folder / "images" / record.image).read_bytes(), record.image, 50)
        yield image, [polygons_to_mask(outline.parts, record.size_hw) for outline in record.outlines]


def loose_box(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The box (4,) that somebody draws around an object: a little too large on each side, within the image."""
    box = box_of(mask)
    sides = np.tile(box[2:] - box[:2], 2)
    drawn = box + sides * rng.uniform(0, LOOSE, 4) * (-1, -1, 1, 1)
    height, width = mask.shape
    return np.asarray(drawn.clip(0, (width, height, width, height)))


def middle(mask: np.ndarray) -> np.ndarray:
    """The point (2,), x and y, that lies deepest inside of an object."""
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    row, column = np.unravel_index(depth.argmax(), depth.shape)
    return np.array([column + 0.5, row + 0.5])
