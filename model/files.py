"""Files that are either old or new, never half-written."""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from model.errors import DamagedFile

logger = logging.getLogger(__name__)

TEMPORARY_PREFIX = ".tmp-"  # of files and folders that are not finished; a crash may leave one behind
LEFTOVER_AGE_S = 24 * 3600.0

READ_AT_ONCE = 1 << 16
"""Bytes."""


def temporary_sibling(path: Path) -> Path:
    """A new hidden name in the same folder, so that a rename to `path` stays within one file system."""
    return path.with_name(f"{TEMPORARY_PREFIX}{path.name[-40:]}-{secrets.token_hex(8)}")


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """The file in errors of what is written to an open one, as on a full disk: the system names none there."""
    try:
        yield
    except OSError as err:
        if err.errno is not None and err.filename is None:
            err.filename = str(path)
        raise


@contextmanager
def replacing(path: Path, *, mode: int | None = None) -> Iterator[Path]:
    """Hand out a temporary file to fill; it takes the place of `path` when the block ends without an error.

    The file is on the disk (fsync) before it is renamed, and it is gone if the block raises. With a `mode`
    (0o600 for secrets) only the owner can open it while it is written; without one the umask decides. OSError
    passes through.
    """
    temporary = temporary_sibling(path)
    try:
        with _named(path):
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666 if mode is None else 0o600))
            yield temporary
            if mode is not None:
                temporary.chmod(mode)
            sync(temporary)
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def remove_leftovers(folder: Path) -> int:
    """Remove what crashes left in a folder, at any depth, more than a day ago; returns how many files or folders."""
    oldest = time.time() - LEFTOVER_AGE_S
    removed = 0
    for leftover in list(folder.rglob(f"{TEMPORARY_PREFIX}*")):
        try:
            if leftover.stat().st_mtime >= oldest:
                continue
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
            removed += 1
        except FileNotFoundError:
            continue  # another process was quicker, or it lay in a folder just removed
    return removed


def sync(path: Path) -> None:
    """Wait until a file is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk, where the file system can (some network ones cannot)."""
    with suppress(OSError):
        sync(path)


def write_atomically(path: Path, data: bytes | str, *, mode: int | None = None) -> None:
    """Put `data` (text as UTF-8) in place of whatever `path` held; a reader sees the old file or the new one."""
    with replacing(path, mode=mode) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def check_writable(folder: Path) -> None:
    """OSError where nothing can be written, as on a full or read-only disk."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(4096))
        file.flush()


def append_lines(path: Path, text: str) -> None:
    """Add whole lines at the end of a file and wait until they are on the disk; one process at a time.

    A line that a crash cut off is removed first, otherwise it would spoil the one after it.
    """
    with _named(path), path.open("ab+") as file:
        whole = _end_of_lines(file)
        if whole < file.seek(0, os.SEEK_END):
            logger.warning("removed the unfinished last line of %s", path)
            file.truncate(whole)
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def _end_of_lines(file: BinaryIO) -> int:
    """Where the last whole line of a file ends, found from the end on; 0 without any."""
    start = file.seek(0, os.SEEK_END)
    while start:
        end, start = start, max(0, start - READ_AT_ONCE)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
    return 0


def count_lines(path: Path) -> int:
    """Number of whole lines in a file, 0 if there is no such file; reads it in parts."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        return sum(part.count(b"\n") for part in iter(lambda: file.read(1 << 20), b""))


def write_json(path: Path, value: Any, *, mode: int | None = None, indent: int | None = 2) -> None:
    """Write JSON atomically; ValueError for NaN and infinity, which no other JSON reader would take."""
    write_atomically(path, json.dumps(value, allow_nan=False, ensure_ascii=False, indent=indent) + "\n", mode=mode)


def read_json(path: Path) -> Any:
    """Parse one JSON file; DamagedFile that names the file if it is not JSON, OSError if it cannot be opened."""
    try:
        return json.loads(path.read_bytes())
    except UnicodeDecodeError as err:
        what = f"byte {err.object[err.start]:#x} at {err.start}"
        raise DamagedFile(f"wanted JSON in {path} as UTF-8, got another encoding ({what}); save it as UTF-8") from err
    except ValueError as err:
        raise DamagedFile(f"wanted JSON in {path}, got something else ({err}); restore the file or delete it") from err
