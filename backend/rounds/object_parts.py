"""What is seen in the objects of a project's images, kept in parts: one file for some tasks each, written once."""

from __future__ import annotations

import logging
import secrets
import tempfile
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np

from model.files import replacing

logger = logging.getLogger(__name__)

FOLDER = "object_parts"
OLD_FILE = "object_features.npz"
"""Where releases before kept everything; it goes when it is met."""

TASKS = 200
"""Tasks of a part, at most: so many images are looked at again after a kill."""


@dataclass(frozen=True)
class Row:
    """Where a task's objects are kept.

    image    what its image is known by, as an image may be exchanged
    version  the version that found them; empty where none had looked for any
    place    its place in the part
    """

    task: int
    image: str
    version: str
    part: Path
    place: int


@dataclass(frozen=True, eq=False)
class Part:
    """Objects of some tasks, all found by one version: those of task i are the rows starts[i]..starts[i + 1].

    starts      (n + 1,) int64
    features    (m, d) float16
    """

    version: str
    tasks: tuple[int, ...]
    images: tuple[str, ...]
    starts: np.ndarray
    features: np.ndarray

    def of(self, place: int) -> np.ndarray:
        """The features (k, d) of the task at a place."""
        return self.features[self.starts[place] : self.starts[place + 1]]


@dataclass
class PartWriter:
    """Gathers what one version found, task by task, and writes a part whenever there is enough for one."""

    parts: ObjectParts
    version: str
    _tasks: list[int] = field(default_factory=list)
    _images: list[str] = field(default_factory=list)
    _features: list[np.ndarray] = field(default_factory=list)

    def add(self, task: int, image: str, features: np.ndarray) -> None:
        """Take a task's features (k, d), k >= 1."""
        self._tasks.append(task)
        self._images.append(image)
        self._features.append(features.astype(np.float16))
        if len(self._tasks) == TASKS:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered since the last part."""
        if not self._tasks:
            return
        starts = np.cumsum([0, *map(len, self._features)])
        features = np.concatenate(self._features)
        self.parts.write(Part(self.version, tuple(self._tasks), tuple(self._images), starts, features))
        for gathered in (self._tasks, self._images, self._features):
            gathered.clear()


@dataclass(frozen=True)
class ObjectParts:
    """The parts of a project's folder; `weights` is the digest of the backbone that looks.

    Any number of processes may add parts at once: each has a name of its own, and which of several rows of a task
    counts does not depend on their order.
    """

    project: Path
    weights: str

    @property
    def folder(self) -> Path:
        """Where the parts are."""
        return self.project / FOLDER

    def rows(self) -> list[Row]:
        """All rows of all parts. A part that cannot be read, or that another backbone saw, is deleted."""
        (self.project / OLD_FILE).unlink(missing_ok=True)
        found = []
        for path in sorted(self.folder.glob("*.npz")):
            part = self._read(path)
            if part is not None:
                named = enumerate(zip(part.tasks, part.images, strict=True))
                found += [Row(task, image, part.version, path, place) for place, (task, image) in named]
        return found

    @contextmanager
    def writer(self, version: str) -> Iterator[PartWriter]:
        """To add what a version found; what was gathered is written also where an error ends it."""
        writer = PartWriter(self, version)
        try:
            yield writer
        finally:
            writer.flush()

    def write(self, part: Part) -> None:
        """Keep a part, whole or not at all."""
        self.folder.mkdir(exist_ok=True)
        with replacing(self.folder / f"{secrets.token_hex(8)}.npz") as path, path.open("wb") as file:
            np.savez(
                file,
                weights=np.array(self.weights),
                version=np.array(part.version),
                tasks=np.array(part.tasks, np.int64),
                images=np.array(part.images),
                starts=part.starts,
                features=part.features,
            )

    def table(self, rows: Collection[Row]) -> tuple[list[int], np.ndarray, np.ndarray]:
        """The tasks of these rows in some order, their features (m, d), and where each one's begin and end (n + 1,).

        The features lie in a file without a name, mapped into memory, as there may be more of them than memory.
        """
        tasks, ends, width = list[int](), [0], 1
        self.folder.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=self.folder) as file:
            for row, features in self._features_of(rows):
                file.write(features.tobytes())
                tasks.append(row.task)
                ends.append(ends[-1] + len(features))
                width = features.shape[1]
            file.flush()
            shape = (ends[-1], width)
            found = np.memmap(file, np.float16, "r", shape=shape) if tasks else np.zeros(shape, np.float16)
        return tasks, found, np.array(ends)

    def tidy(self, rows: Sequence[Row], kept: Collection[Row]) -> None:
        """Rewrite parts of whose `rows` few are `kept`, those of one version together; the new ones are there first.

        A part stays as long as half of it, or of what a part may hold, is kept; so does a small one without another
        small one of its version.
        """
        sizes, versions = Counter(row.part for row in rows), {row.part: row.version for row in rows}
        left: dict[Path, list[Row]] = {part: [] for part in sizes}
        for row in kept:
            left[row.part].append(row)
        for version in sorted(set(versions.values())):
            small = [part for part, of in versions.items() if of == version and len(left[part]) < TASKS // 2]
            if len(small) == 1:
                small = [part for part in small if 2 * len(left[part]) < sizes[part]]
            with self.writer(version) as writer:
                for row, features in self._features_of([row for part in small for row in left[part]]):
                    writer.add(row.task, row.image, features)
            for part in small:
                part.unlink(missing_ok=True)

    def _features_of(self, rows: Collection[Row]) -> Iterator[tuple[Row, np.ndarray]]:
        """Each row with its features, part by part."""
        for path, of_part in groupby(sorted(rows, key=lambda row: (row.part, row.place)), key=lambda row: row.part):
            part = self._read(path)
            if part is None:
                logger.warning("%s went while it was read; ask again for the tasks in it", path.name)
                continue
            for row in of_part:
                yield row, part.of(row.place)

    def _read(self, path: Path) -> Part | None:
        """A part; None where it is gone, or goes now because it is torn or of another backbone."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                if str(stored["weights"]) == self.weights:
                    tasks, images = (tuple(stored[name].tolist()) for name in ("tasks", "images"))
                    return Part(str(stored["version"]), tasks, images, stored["starts"], stored["features"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as err:
            logger.warning("%s cannot be read (%s); its images are looked at again", path.name, err)
        path.unlink(missing_ok=True)
        return None
