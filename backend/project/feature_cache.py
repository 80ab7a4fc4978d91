"""Features of the untouched pretrained backbone, computed once for each image and kept in a folder."""

from __future__ import annotations

import hashlib
import io
import logging
import zipfile
from pathlib import Path

import numpy as np

from model.engines.torchvision.frozen import FeatureMaps, FrozenBackbone
from model.file_cache import cached_path, read_cached, trim_cache, write_cached

logger = logging.getLogger(__name__)

TRIMMED_EVERY = 500
"""Files that are written between two looks at the size of the cache."""


class FeatureCache:
    """Feature maps by image: `<image hash>-<weights hash>`; about so many bytes, the longest unused go first."""

    def __init__(self, folder: Path, limit_bytes: float, device: str = "cpu") -> None:
        self.folder, self.limit_bytes = folder, limit_bytes
        self.backbone = FrozenBackbone(device)
        self.written = 0

    def maps(self, image: np.ndarray) -> FeatureMaps:
        """The features of an RGB uint8 (h, w, 3) image."""
        path = cached_path(self.folder, f"{image_digest(image)}-{self.backbone.digest}")
        content = read_cached(path)
        if content is not None:
            try:
                return _decode(content, image.shape[:2])
            except (ValueError, KeyError, zipfile.BadZipFile):
                logger.warning("the cached features in %s cannot be read and are computed again", path.name)
        found = self.backbone.maps(image)
        write_cached(path, _encode(found))
        self.written += 1
        if self.written % TRIMMED_EVERY == 0:
            self.trim()
        return found

    def trim(self) -> int:
        """Delete what is too much; returns how many files went."""
        return trim_cache(self.folder, self.limit_bytes)


def image_digest(image: np.ndarray) -> str:
    """What an image's pixels and size are known by, whatever file they came from."""
    return hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()[:32]


def _encode(maps: FeatureMaps) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, *maps.levels)
    return buffer.getvalue()


def _decode(content: bytes, image_hw: tuple[int, int]) -> FeatureMaps:
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        return FeatureMaps(tuple(stored[name] for name in stored.files), image_hw)
