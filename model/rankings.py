"""The order in which a version wants the tasks annotated, one JSON line for each task."""

from __future__ import annotations

import json
import logging
import math
import os
from array import array
from collections import OrderedDict
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, overload

import numpy as np

from model.errors import BadVersion
from model.files import append_lines, replacing

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RankedTask:
    """One scored task.

    task        Label Studio's id
    certainty   0..1, None if the image showed no object
    place       0 is annotated first
    score       what Label Studio's queue sorts by, lowest first; finite
    split       train, val or test
    is_control  chosen at random, whatever the strategy
    copy_of     the task that it is a near copy of, if it comes last for that
    reason      why it stands at its place, in words; empty in rankings of before
    regions     the pre-label as Label Studio's regions (JSON)
    """

    task: int
    certainty: float | None
    place: int
    score: float
    split: str
    is_control: bool = field(default=False, kw_only=True)
    copy_of: int | None = field(default=None, kw_only=True)
    reason: str = field(default="", kw_only=True)
    regions: list[dict[str, Any]]

    def __post_init__(self) -> None:
        if not math.isfinite(self.score):
            raise ValueError(f"a score must be finite, got {self.score} (task {self.task})")
        if self.certainty is not None and not math.isfinite(self.certainty):
            raise ValueError(
                f"a certainty must be finite, or None where there is none, got {self.certainty} (task {self.task})"
            )


def rows_to_text(rows: Iterable[RankedTask]) -> str:
    """JSON lines, each ended by a newline."""
    return "".join(json.dumps(asdict(row), allow_nan=False) + "\n" for row in rows)


def write_rows(path: Path, rows: Iterable[RankedTask]) -> None:
    """Put rows in place of whatever the file held, one after the other, so that they need not all be in memory."""
    with replacing(path) as temporary, temporary.open("w") as file:
        file.writelines(rows_to_text([row]) for row in rows)


def append_rows(path: Path, rows: Iterable[RankedTask]) -> None:
    """Add rows at the end of a file and wait until they are on the disk."""
    append_lines(path, rows_to_text(rows))


REGIONS = b', "regions": '
"""What stands before the regions in each line; they come last, and are most of it."""

BEGINNING, DIGITS = b'{"task": ', 18
"""How each line begins, before the task's number of at most so many digits."""

NO_TASK = -1
TAIL = 256
"""Bytes by which the end of what was read of a file is known again."""

READ_AT_ONCE = 1 << 16
"""Bytes."""


def read_rows(path: Path, *, with_regions: bool = True) -> tuple[RankedTask, ...]:
    """All rows in the order written, with or (much faster) without their regions; none if there is no file.

    A last line without its newline was cut off by a crash, or is being written: it is left out with a warning.
    Raises BadVersion for any other broken line.
    """
    try:
        with path.open("rb") as file:
            lines = (line if with_regions else _light(line) for _, line in _whole_lines(file, path))
            return tuple(_row(line, path, number) for number, line in enumerate(lines, start=1))
    except FileNotFoundError:
        return ()


class StoredRows(Sequence[RankedTask]):
    """The rows of a file as `read_rows` gives them, but each read from the disk when it is looked at.

    A context manager, which keeps the file open, also where another one takes its place. `only`: those of some tasks.
    """

    def __init__(self, path: Path, only: Container[int] | None = None) -> None:
        self._path, self._starts = path, array("q")
        self._file: BinaryIO = path.open("rb") if path.exists() else BytesIO()
        for number, (start, line) in enumerate(_whole_lines(self._file, path), start=1):
            if only is None or _row(_light(line), path, number).task in only:
                self._starts.append(start)

    def __enter__(self) -> StoredRows:
        return self

    def __exit__(self, *raised: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> RankedTask: ...

    @overload
    def __getitem__(self, index: slice) -> list[RankedTask]: ...

    def __getitem__(self, index: int | slice) -> RankedTask | list[RankedTask]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        self._file.seek(self._starts[index])
        return _row(self._file.readline(), self._path, index + 1)


def _whole_lines(file: BinaryIO, path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that end, each with where it starts."""
    start = 0
    for line in file:
        if not line.endswith(b"\n"):
            logger.warning("left out the unfinished last line of %s", path)
            return
        yield start, line
        start += len(line)


def _light(line: bytes) -> bytes:
    return line.partition(REGIONS)[0] + REGIONS + b"[]}"


class RowFinder:
    """Finds a task's last row in ranking files of any size; for several threads.

    A file is read once, without its JSON, and then only what was added to it, unless another file has taken its place.
    What is known of the `kept` files that were asked for last stays in memory: 16 bytes a line.
    """

    def __init__(self, kept: int = 4) -> None:
        self._kept, self._lock = kept, Lock()
        self._indexes: OrderedDict[Path, _Index] = OrderedDict()

    def find(self, path: Path, task: int) -> RankedTask | None:
        """The last row of a task, with its regions; None if it has none. BadVersion if that row is broken."""
        index = self._index_of(path)
        try:
            with index.lock, path.open("rb", buffering=READ_AT_ONCE) as file:
                index.follow(file)
                return index.read(task, file, path)
        except FileNotFoundError:
            return None

    def _index_of(self, path: Path) -> _Index:
        with self._lock:
            index = self._indexes.setdefault(path, _Index())
            self._indexes.move_to_end(path)
            while len(self._indexes) > self._kept:
                self._indexes.popitem(last=False)
            return index


class _Index:
    """Each whole line of a file: its task, NO_TASK where it begins with none, and where it starts."""

    def __init__(self) -> None:
        self.lock = Lock()
        self._file = (0, 0)  # device and inode
        self._seen = (0, 0)  # its size and when it was changed last, in nanoseconds
        self._forget()

    def follow(self, file: BinaryIO) -> None:
        """Read what was added to the file since the last time, or all of it where it is another one."""
        facts = os.fstat(file.fileno())
        identity, seen = (facts.st_dev, facts.st_ino), (facts.st_size, facts.st_mtime_ns)
        if (identity, seen) == (self._file, self._seen):
            return
        if identity != self._file or not self._continues(file):
            self._forget()
        file.seek(self._end)
        for line in file:
            if not line.endswith(b"\n"):  # it is being written, or a crash cut it off
                break
            self._note(line)
        self._file, self._seen = identity, seen

    def read(self, task: int, file: BinaryIO, path: Path) -> RankedTask | None:
        """The last row of a task in the file that was followed."""
        found = np.flatnonzero(np.frombuffer(self._tasks, np.int64) == task)
        if not len(found):
            return None
        file.seek(self._starts[found[-1]])
        return _row(file.readline(), path, int(found[-1]) + 1)

    def _forget(self) -> None:
        self._tasks, self._starts = array("q"), array("q")
        self._end, self._tail = 0, b""

    def _continues(self, file: BinaryIO) -> bool:
        """Whether a file still has the end of what was read before; an inode's number may be another file's by now."""
        file.seek(self._end - len(self._tail))
        return file.read(len(self._tail)) == self._tail

    def _note(self, line: bytes) -> None:
        number, comma, _ = line[len(BEGINNING) : len(BEGINNING) + DIGITS + 1].partition(b",")
        is_task = line.startswith(BEGINNING) and comma and number.isdigit()
        self._tasks.append(int(number) if is_task else NO_TASK)
        self._starts.append(self._end)
        self._end += len(line)
        self._tail = line[-TAIL:]


def _row(line: bytes, path: Path, number: int) -> RankedTask:
    try:
        return RankedTask(**json.loads(line))
    except (ValueError, TypeError) as err:
        raise BadVersion(
            f"line {number} of {path} is no ranked task ({err}); delete the file, tasks are scored again"
        ) from err
