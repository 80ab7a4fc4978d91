"""Images that were replaced under their addresses, as far as anybody noticed; one small file each.

They lie beside the cache and not in it: with what is deleted there, outlines of the old images would count again.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

from model.file_cache import write_cached
from model.stored_json import read_as


@dataclass(frozen=True)
class Replacement:
    """What an image was replaced by, as a hash of its file, and when (Unix time), at the latest."""

    content: str
    at: float


class Replacements:
    """The last replacement of each image, by the name that the image's cache has for its address."""

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / "replaced_images"

    def of(self, name: str) -> Replacement | None:
        """None if none was noticed; DamagedFile if it cannot be read."""
        path = self.folder / name
        return read_as(path, Replacement) if path.exists() else None

    def note(self, name: str, content: bytes, at: float) -> None:
        """Keep that another image was replaced by this file at a moment."""
        replacement = Replacement(hashlib.sha256(content).hexdigest()[:16], at)
        write_cached(self.folder / name, json.dumps(asdict(replacement)).encode())


def replaced_at(last_modified: str, told_at: float) -> float:
    """When a file took the place of another one that its server still had at `told_at`, at the latest (Unix time).

    What the server says of it (Last-Modified) counts if it lies between then and now, else now: copies keep old dates.
    """
    now = time.time()
    try:
        said = parsedate_to_datetime(last_modified).timestamp()
    except (ValueError, TypeError, OverflowError):
        return now
    return said if told_at <= said <= now else now
