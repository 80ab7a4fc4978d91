"""What a server calls the image that is kept of it (its ETag), beside that image, and when it was asked for it last."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from model.errors import ModelError
from model.file_cache import read_cached, write_cached
from model.stored_json import read_as

ASKED_AGAIN_S = 86_400.0
"""After so long a server is asked whether it has another image by now; more often, a big pool would cost minutes."""


@dataclass(frozen=True)
class Etag:
    """A server's name for what it has at an address, and when it said so (Unix time)."""

    name: str
    told_at: float

    @property
    def is_due(self) -> bool:
        """Whether to ask again; also where the clock has been set back since."""
        return not 0 <= time.time() - self.told_at < ASKED_AGAIN_S


def read_etag(image: Path) -> Etag | None:
    """What the server called an image that is kept at that path; None if it gave it no name, or nobody knows."""
    path = _path(image)
    if read_cached(path) is None:
        return None
    try:
        return read_as(path, Etag)
    except (OSError, ModelError):
        return None


def write_etag(image: Path, name: str) -> None:
    """Keep what the server just called that image; nothing where it gives no name, or one that no request can carry."""
    if name and name.isascii():
        write_cached(_path(image), json.dumps(asdict(Etag(name, time.time()))).encode())
    else:
        _path(image).unlink(missing_ok=True)


def _path(image: Path) -> Path:
    return image.with_name(f"{image.name}.etag")
