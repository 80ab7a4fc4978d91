"""Images that were replaced under their addresses, as far as anybody noticed; one small file each.

They lie beside the cache and not in it: with what is deleted there, outlines of the old images would count again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from model.file_cache import write_cached
from model.stored_json import read_as


@dataclass(frozen=True)
class Replacement:
    """What an image was replaced by, as a hash of its file, and when (Unix time), at the latest."""

    content: str
    at: float

    def reasons_against(self, annotation: Mapping[str, Any]) -> tuple[str, ...]:
        """Why an annotation may show what was there before, one line; nothing if it was submitted or updated since."""
        if datetime.fromisoformat(annotation["updated_at"].replace("Z", "+00:00")).timestamp() >= self.at:
            return ()
        when = f"{datetime.fromtimestamp(self.at, timezone.utc):%Y-%m-%d %H:%M} UTC"
        return (
            f"annotation {annotation.get('id')} was made before its image was replaced (by {when}); correct it and "
            "press Update, which Label Studio allows once something was changed: where it fits already, move a point "
            "and back",
        )


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
