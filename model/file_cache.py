"""Folders of files that can be made again, kept within a size: `<folder>/<two characters>/<name>`."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

from model.files import write_atomically

logger = logging.getLogger(__name__)


def cached_path(folder: Path, name: str) -> Path:
    """Where a file of a cache is; its folder holds those with the same first two characters."""
    return folder / name[:2] / name


def read_cached(path: Path) -> bytes | None:
    """A cached file's content, which counts as used now if the disk takes that; None if it is not there."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    with suppress(OSError):  # it can only be read, is another user's, or is just deleted
        os.utime(path)
    return content


def write_cached(path: Path, content: bytes) -> None:
    """Put a file into a cache; on a full disk, say, it is logged that it is not there, as it can be made again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as err:
        logger.warning("%s cannot be kept, work goes on without: %s", path, err)


def trim_cache(folder: Path, limit_bytes: float) -> int:
    """Delete the files of a cache that were not used for longest until it fits; returns how many went."""
    sizes: list[tuple[float, int, Path]] = []
    for path in folder.glob("*/*"):
        with suppress(FileNotFoundError):  # another process tidies, or finishes a file
            facts = path.stat()
            sizes.append((facts.st_mtime, facts.st_size, path))
    total, removed = sum(size for _, size, _ in sizes), 0
    for _, size, path in sorted(sizes):
        if total <= limit_bytes:
            break
        path.unlink(missing_ok=True)
        total -= size
        removed += 1
    return removed
