"""What the untouched backbone sees in an image, as a whole and where a version takes something for an object."""

from __future__ import annotations

import logging
import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import torch

from model.engines.base import Engine
from model.engines.torchvision.frozen import FeatureMaps
from model.instances import Proposals
from sampling.coverage import ObjectsOfImage
from sampling.mc_dropout import dropout_on

logger = logging.getLogger(__name__)

PATCHES_ACROSS = 2
"""An image without any proposal is looked at in so many patches across and down."""

UNKNOWN = 0.5
"""Uncertainty of such a patch: nothing is known of it."""

HEADER = struct.Struct("<4sqiii")
MARK = b"SEEN"
HALF = np.dtype("<f2")


class Cache(Protocol):
    """Makes the features of images, or has them."""

    def maps(self, image: np.ndarray) -> FeatureMaps:
        """The features of an RGB uint8 (h, w, 3) image."""
        ...


@dataclass(frozen=True, eq=False)
class SeenImage:
    """The objects, or patches where none is proposed, and the features of the image as a whole (d,)."""

    objects: ObjectsOfImage
    whole: np.ndarray


@dataclass(frozen=True, eq=False)
class Onlooker:
    """Looks at images beside a version: `passes` of it, and the features of `cache`."""

    cache: Cache
    passes: int

    def look(self, engine: Engine, encoded: Any, image: np.ndarray, generator: torch.Generator) -> SeenImage:
        """What is seen in an image (h, w, 3) that the engine has encoded; repeatable by the generator's state."""
        with dropout_on(engine.network, generator):
            proposals = engine.propose(encoded, self.passes)
        return seen_image(self.cache.maps(image), proposals)


def seen_image(maps: FeatureMaps, proposals: Proposals) -> SeenImage:
    """Features where something is proposed; its uncertainty is how little the likeliest class, or none, is ahead."""
    classes = proposals.probabilities.shape[1]
    if len(proposals):
        probabilities, features = proposals.probabilities, maps.of_boxes(proposals.boxes_xyxy)
        none = np.clip(1 - probabilities.sum(1, keepdims=True), 0, 1)
        likeliest = np.sort(np.concatenate([probabilities, none], 1), 1)  # (n, c + 1)
        uncertainties = 1 - (likeliest[:, -1] - likeliest[:, -2])
    else:
        features = maps.of_patches(PATCHES_ACROSS)
        probabilities = np.full((len(features), classes), 1 / max(classes, 1), np.float32)
        uncertainties = np.full(len(features), UNKNOWN)
    return SeenImage(ObjectsOfImage(features, probabilities, np.clip(uncertainties, 0, 1)), maps.of_image())


def annotated_features(maps: FeatureMaps, boxes_xyxy: np.ndarray) -> np.ndarray:
    """Features (n, d) of what is annotated in an image; without objects those of its patches, as of an open image."""
    return maps.of_boxes(boxes_xyxy) if len(boxes_xyxy) else maps.of_patches(PATCHES_ACROSS)


def encoded_row(task: int, seen: SeenImage) -> bytes:
    """A task's row of the file: task, numbers of objects, classes and features; then all values in 16 bits."""
    found = seen.objects
    sizes = (*found.probabilities.shape, len(seen.whole))
    values = (found.features, found.probabilities, found.uncertainties, seen.whole)
    return HEADER.pack(MARK, task, *sizes) + b"".join(np.asarray(part, HALF).tobytes() for part in values)


def read_seen(path: Path) -> Mapping[int, SeenImage]:
    """The last row of each task, read from the file when it is looked at; none if there is no file.

    What stands after a row that was cut off, or is none, is left out with a warning.
    """
    if not path.exists() or not path.stat().st_size:
        return {}
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    rows = {}
    for task, start, sizes, _ in _rows(content):
        rows[task] = _decoded(content, start, sizes)
    return rows


def open_seen(path: Path) -> BinaryIO:
    """The file to add rows to; one that was cut off at the end goes, and its task is looked at again."""
    file = path.open("ab+")
    if path.stat().st_size:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            whole = max((end for *_, end in _rows(content)), default=0)
        file.truncate(whole)
    return file


def _rows(content: mmap.mmap) -> Iterator[tuple[int, int, tuple[int, int, int], int]]:
    """Of each whole row from the first on its task, where its values begin, its sizes, and where it ends."""
    start = 0
    while start + HEADER.size <= len(content):
        mark, task, k, c, d = HEADER.unpack_from(content, start)
        end = start + HEADER.size + HALF.itemsize * (k * (d + c + 1) + d)
        if mark != MARK or end > len(content):
            break
        yield task, start + HEADER.size, (k, c, d), end
        start = end
    if start < len(content):
        logger.warning("what is seen in some tasks ends in a row that cannot be read; they are looked at again")


def _decoded(content: mmap.mmap, start: int, sizes: tuple[int, int, int]) -> SeenImage:
    k, c, d = sizes
    values = np.frombuffer(content, HALF, k * (d + c + 1) + d, start)
    features, probabilities, uncertainties, whole = np.split(values, np.cumsum([k * d, k * c, k]))
    return SeenImage(ObjectsOfImage(features.reshape(k, d), probabilities.reshape(k, c), uncertainties), whole)
