"""Small grey pictures of the tasks' images, by which near copies are told; kept in a cache."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from backend.errors import BadImage
from backend.project.workplace import Workplace
from backend.rounds.image_keys import image_key
from model.file_cache import cached_path, read_cached, write_cached
from model.near_copies import Glance, glance, thumbnail

logger = logging.getLogger(__name__)

JPEG_QUALITY = 95

CACHE_BYTES = 500e6
"""Size of all of them on disk, some 40,000."""

AT_HAND = 1000
"""How many are held in memory while images are compared, 70 kB each."""

NOTHING = Glance(np.zeros((1, 1), np.uint8), np.zeros((0, 2), np.float32), np.zeros((0, 32), np.uint8))


def glances_folder(data_dir: Path) -> Path:
    """Folder of all projects' small pictures."""
    return data_dir / "cache" / "glances"


def keep_glance(place: Workplace, value: Any, image: np.ndarray) -> bytes:
    """Keep the small picture (JPEG) of an image (h, w, 3), whose address in the task's data is `value`."""
    content = cv2.imencode(".jpg", thumbnail(image), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
    write_cached(_path(place, value), content)
    return content


class Glances:
    """What each task's image looks like, from the cache or else from the image; `values` are their addresses."""

    def __init__(self, place: Workplace, values: Mapping[int, Any]) -> None:
        self.place, self.values = place, values
        self.of = lru_cache(AT_HAND)(self._of)

    def _of(self, task: int) -> Glance:
        value = self.values[task]
        try:
            content = read_cached(_path(self.place, value)) or self._made_anew(task, value)
        except BadImage as err:
            logger.warning("task %d is compared with no other: %s", task, err)
            return NOTHING
        grey = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
        return NOTHING if grey is None else glance(np.asarray(grey))

    def _made_anew(self, task: int, value: Any) -> bytes:
        return keep_glance(self.place, value, self.place.images.load(value, task))


def _path(place: Workplace, value: Any) -> Path:
    name = hashlib.sha256(f"{place.folder.uid}\n{image_key(place, value)}".encode()).hexdigest()
    return cached_path(glances_folder(place.folder.data_dir), name)
