"""What the untouched backbone sees in each task's image as a whole, kept with the project."""

from __future__ import annotations

import hashlib
import logging
import time
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from backend.errors import BadImage
from backend.label_studio.client import Task
from backend.project.unreadable import Unreadable
from backend.project.workplace import Workplace
from backend.rounds.glances import keep_glance
from backend.rounds.image_keys import image_key
from model.files import replacing

logger = logging.getLogger(__name__)

LOADERS = 4
"""Threads that fetch and decode the next images meanwhile."""

AT_ONCE = 8
FILE = "image_features.npz"


class Maps(Protocol):
    """Feature maps of an image."""

    def of_image(self) -> np.ndarray:
        """The image as a whole, (d,) float32."""
        ...


class FeatureMaker(Protocol):
    """Makes an image's features, or has them."""

    def maps(self, image: np.ndarray) -> Maps:
        """The features of an RGB uint8 (h, w, 3) image."""
        ...


@dataclass(frozen=True, eq=False)
class Known:
    """Features by task.

    images  what each task's image is known by, as an image may be exchanged
    """

    features: Mapping[int, np.ndarray]
    images: Mapping[int, str]

    def has(self, place: Workplace, task: Task) -> bool:
        """Whether a task's image, as it is now, has been looked at."""
        return self.images.get(task.id) == image_name(place, place.labels.image_value.of(task.data))


def read_features(place: Workplace) -> Known:
    """What is known so far; a file that cannot be read is made anew."""
    try:
        with np.load(place.folder.path / FILE, allow_pickle=False) as stored:
            tasks = stored["tasks"].tolist()
            features = dict(zip(tasks, stored["features"], strict=True))
            return Known(features, dict(zip(tasks, stored["images"].tolist(), strict=True)))
    except FileNotFoundError:
        return Known({}, {})
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as err:
        logger.warning("%s of project %s cannot be read and is made anew: %s", FILE, place.folder.uid, err)
        return Known({}, {})


def missing_from(known: Known, place: Workplace, tasks: Sequence[Task]) -> list[Task]:
    """Tasks whose image has not been looked at, but for those that cannot be read now."""
    waiting = {task for task, failure in Unreadable(place.folder.path).failures().items() if failure.is_waiting}
    return [task for task in tasks if task.id not in waiting and not known.has(place, task)]


def add_features(place: Workplace, cache: FeatureMaker, known: Known, tasks: Sequence[Task], deadline: float) -> Known:
    """Look at the images of these tasks until a moment of time.monotonic(); what was found is on the disk then.

    An image that cannot be read is noted for `maskal status`.
    """
    unreadable, value = Unreadable(place.folder.path), place.labels.image_value
    features, images = dict(known.features), dict(known.images)
    with ThreadPoolExecutor(LOADERS, "load") as loaders:
        for start in range(0, len(tasks), AT_ONCE):
            batch = tasks[start : start + AT_ONCE]
            coming = [loaders.submit(place.images.load, value.of(task.data), task.id) for task in batch]
            for task, image in zip(batch, coming, strict=True):
                try:
                    pixels = image.result()
                    features[task.id] = cache.maps(pixels).of_image().astype(np.float16)
                    if place.config.moves_near_copies:
                        keep_glance(place, value.of(task.data), pixels)
                    images[task.id] = image_name(place, value.of(task.data))
                    unreadable.clear(task.id)
                except BadImage as err:
                    unreadable.note(task.id, err)
            if time.monotonic() > deadline:
                break
    found = Known(features, images)
    _write(place, found)
    return found


def _write(place: Workplace, known: Known) -> None:
    if not known.features:
        return
    with replacing(place.folder.path / FILE) as path, path.open("wb") as file:
        np.savez(
            file,
            tasks=np.array(list(known.features), np.int64),
            features=np.stack(list(known.features.values())),
            images=np.array([known.images[task] for task in known.features]),
        )


def image_name(place: Workplace, value: object) -> str:
    """What a task's image, whose address in the data is `value`, is known by here."""
    return hashlib.sha256(image_key(place, value).encode()).hexdigest()[:16]
