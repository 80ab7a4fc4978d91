"""What the untouched backbone sees in the objects of each task's image, kept with the project to compare them by."""

from __future__ import annotations

import hashlib
import logging
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from backend.errors import BadImage
from backend.label_studio.annotations import read_outlines
from backend.label_studio.client import Task
from backend.label_studio.labels import LabelConfig
from backend.project.feature_cache import FeatureCache
from backend.project.unreadable import Unreadable
from backend.project.workplace import Workplace
from model.engines.torchvision.frozen import FeatureMaps
from model.files import replacing

logger = logging.getLogger(__name__)

FILE = "object_features.npz"

MOST = 12
"""Objects of an image that are compared, the first of its regions; of a crowd some stand for all."""

ACROSS = 2
"""An image in which nothing was found is compared by so many patches across and down, and as a whole."""

LOADERS = 4
AT_ONCE = 8
KEPT_EVERY = 200
"""Images that are looked at between two times that the file is written."""

Region = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Seen:
    """The objects of a task's image.

    image       what the image's address is known by, as an image may be exchanged
    version     whose pre-label they are; empty where nothing was found, and patches stand for the image
    features    (k, d) float16
    """

    image: str
    version: str
    features: np.ndarray


@dataclass(frozen=True, eq=False)
class ObjectIndex:
    """What has been looked at, by task; `weights`: the digest of the backbone that looked."""

    weights: str
    seen: Mapping[int, Seen]

    def has(self, task: Task, image: object, version: str) -> bool:
        """Whether a task's objects are known. Those of an earlier version are objects still; patches are made anew."""
        found = self.seen.get(task.id)
        return found is not None and found.image == _name(image) and (bool(found.version) or not version)

    def of(self, tasks: Iterable[Task]) -> tuple[list[int], np.ndarray, np.ndarray]:
        """The tasks among these that are known, their features (m, d), and where each one's begin and end (n + 1,)."""
        known = [task.id for task in tasks if task.id in self.seen]
        parts = [self.seen[task].features for task in known]
        starts = np.cumsum([0, *(len(part) for part in parts)])
        return known, np.concatenate(parts) if parts else np.zeros((0, 1), np.float16), starts


def read_index(place: Workplace, weights: str) -> ObjectIndex:
    """What is known so far; what another backbone saw, or a file that cannot be read, is made anew."""
    nothing = ObjectIndex(weights, {})
    try:
        with np.load(place.folder.path / FILE, allow_pickle=False) as stored:
            if str(stored["weights"]) != weights:
                return nothing
            tasks, images, versions = (stored[name].tolist() for name in ("tasks", "images", "versions"))
            seen = map(Seen, images, versions, np.split(stored["features"], stored["starts"][1:-1]))
            return ObjectIndex(weights, dict(zip(tasks, seen, strict=True)))
    except FileNotFoundError:
        return nothing
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as err:
        logger.warning("%s of project %s cannot be read and is made anew: %s", FILE, place.folder.uid, err)
        return nothing


def write_index(place: Workplace, index: ObjectIndex) -> None:
    """Keep what is known."""
    seen = list(index.seen.values())
    if not seen:
        return
    with replacing(place.folder.path / FILE) as path, path.open("wb") as file:
        np.savez(
            file,
            weights=np.array(index.weights),
            tasks=np.array(list(index.seen), np.int64),
            images=np.array([one.image for one in seen]),
            versions=np.array([one.version for one in seen]),
            features=np.concatenate([one.features for one in seen]),
            starts=np.cumsum([0, *(len(one.features) for one in seen)]),
        )


def look_at(
    place: Workplace,
    cache: FeatureCache,
    index: ObjectIndex,
    tasks: Iterable[Task],
    regions: Mapping[int, Sequence[Region]],
    version: str,
) -> ObjectIndex:
    """The index with the objects of these tasks too, which are the `regions` that a version found; written on the way.

    An image that cannot be read is noted for `maskal status`, and left out.
    """
    unreadable, value, seen = Unreadable(place.folder.path), place.labels.image_value, dict(index.seen)
    left = 0
    with ThreadPoolExecutor(LOADERS, "load") as loaders:
        for batch in _batches(tasks):
            coming = [loaders.submit(place.images.load, value.of(task.data), task.id) for task in batch]
            for task, image in zip(batch, coming, strict=True):
                try:
                    boxes = boxes_of(regions.get(task.id, ()), place.labels, image.result().shape[:2])
                    features = features_in(cache.maps(image.result()), boxes).astype(np.float16)
                    seen[task.id] = Seen(_name(value.of(task.data)), version if len(boxes) else "", features)
                    unreadable.clear(task.id)
                except BadImage as err:
                    unreadable.note(task.id, err)
            left += len(batch)
            if left >= KEPT_EVERY:
                write_index(place, replace(index, seen=seen))
                left = 0
    found = replace(index, seen=seen)
    write_index(place, found)
    return found


def boxes_of(regions: Sequence[Region], labels: LabelConfig, size_hw: tuple[int, int]) -> np.ndarray:
    """Boxes (k, 4) around the first MOST objects of regions, x0, y0, x1, y1 in pixels, without what cannot be read."""
    outlines, _ = read_outlines({"result": list(regions)}, labels, size_hw)
    corners = [np.concatenate([part.exterior for part in outline.parts]) for outline in outlines[:MOST]]
    return np.array([[*points.min(0), *points.max(0)] for points in corners], np.float32).reshape(-1, 4)


def features_in(maps: FeatureMaps, boxes: np.ndarray) -> np.ndarray:
    """Features (k, d) float32 in boxes (k, 4); without any those of the image as a whole and of its patches."""
    if len(boxes):
        return maps.of_boxes(boxes)
    return np.concatenate([maps.of_patches(1), maps.of_patches(ACROSS)])


def _batches(tasks: Iterable[Task]) -> Iterable[list[Task]]:
    batch: list[Task] = []
    for task in tasks:
        batch.append(task)
        if len(batch) == AT_ONCE:
            yield batch
            batch = []
    yield batch


def _name(image: object) -> str:
    return hashlib.sha256(str(image).encode()).hexdigest()[:16]
