"""Small pictures of images with outlines, for those who look at a project from outside of Label Studio."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from backend.label_studio.annotations import read_outlines
from backend.label_studio.labels import LabelConfig
from backend.project.workplace import Workplace
from backend.rounds.image_keys import image_key
from model.file_cache import cached_path, write_cached
from model.records import Polygon

THUMBNAIL_PX = 480
"""Longer side of a thumbnail: sharp at half of that on a fine display."""

JPEG_QUALITY = 80
DECIMALS = 2

CACHE_BYTES = 200e6
"""Size of all thumbnails on disk, some 8,000; a project's page shows about 30."""

RIGHT, MISSED, INVENTED, CONFUSED, PROPOSED = "right", "missed", "invented", "confused", "proposed"
"""What an outline is: found and there, there only, found only, found under another name, or a pre-label."""


@dataclass(frozen=True)
class Drawing:
    """One outline on a picture: what it is, its label, and its rings of points x, y in percent of the image."""

    kind: str
    label: str
    rings: list[list[list[float]]]


@dataclass(frozen=True)
class Picture:
    """A task's image, its size (height, width), and what is drawn on it; `thumbnail` is its name in the cache."""

    task: int
    thumbnail: str
    size_hw: tuple[int, int]
    drawings: list[Drawing]


def thumbnails(data_dir: Path) -> Path:
    """Folder of the thumbnails of all projects."""
    return data_dir / "cache" / "thumbnails"


def thumbnail_name(place: Workplace, uri: str) -> str:
    """Name of an image's thumbnail in the cache."""
    return hashlib.sha256(f"{place.folder.uid}\n{image_key(place, uri)}".encode()).hexdigest()


def keep_thumbnail(place: Workplace, uri: str, image: np.ndarray) -> str:
    """Make the thumbnail of an image (h, w, 3) unless it is there; returns its name."""
    name = thumbnail_name(place, uri)
    path = cached_path(thumbnails(place.folder.data_dir), name)
    if not path.exists():
        scale = min(1.0, THUMBNAIL_PX / max(image.shape[:2]))
        size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        write_cached(path, cv2.imencode(".jpg", small[..., ::-1], options)[1].tobytes())
    return name


def drawings_of(regions: list[dict[str, Any]], size_hw: tuple[int, int], labels: LabelConfig) -> list[Drawing]:
    """The objects of a pre-label; regions that cannot be read are left out."""
    outlines, _ = read_outlines({"result": regions}, labels, size_hw)
    return [Drawing(PROPOSED, outline.label, in_percent(outline.parts, size_hw)) for outline in outlines]


def in_percent(parts: Sequence[Polygon], size_hw: tuple[int, int]) -> list[list[list[float]]]:
    """The rings of an object's parts, holes among them, in percent of an image of that size.

    As fine as a thumbnail shows them, so that a page of many objects stays small.
    """
    scale, tolerance_px = 100 / np.array([size_hw[1], size_hw[0]]), max(size_hw) / THUMBNAIL_PX
    rings: Iterable[np.ndarray] = (ring for part in parts for ring in (part.exterior, *part.holes))
    return [np.round(_thinned(ring, tolerance_px) * scale, DECIMALS).tolist() for ring in rings]


def _thinned(ring: np.ndarray, tolerance_px: float) -> np.ndarray:
    """A ring (k, 2) with the points that it takes; all of them where fewer than three are left."""
    thin = cv2.approxPolyDP(ring.astype(np.float32)[:, None], tolerance_px, closed=True)[:, 0]
    return thin if len(thin) >= 3 else ring
