"""All versions of one project: their files, their facts, their rankings, and which one is served; needs no torch."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import shutil
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from model.errors import BadVersion
from model.files import sync_folder, temporary_sibling, write_atomically, write_json
from model.rankings import RankedTask as RankedTask  # part of this module's interface
from model.rankings import RowFinder, StoredRows, append_rows, read_rows, write_rows
from model.stored_json import as_kind, read_as

logger = logging.getLogger(__name__)

NAME = re.compile(r"maskal-r([1-9][0-9]*)")
WEIGHTS = "weights.safetensors"

FORMAT = 1
"""Of `version.json`; raised when a release writes it so that the one before cannot read it."""


@dataclass(frozen=True)
class VersionFields:
    """What a round knows about a version before its weights are stored.

    number        1, 2, ...; never used twice in a project
    classes       names that the network's labels index
    engine        key of the engine that reads the weights
    config        what the engine needs to build the same network (JSON)
    metrics       evaluation on the validation images of its day, and in `test` on its test images (JSON)
    parent        name of the version it was fine-tuned from, None for the first
    data_digest   hash of the snapshot it was trained on
    promoted      whether the gate let it be served; `reason` says why or why not
    """

    number: int
    classes: tuple[str, ...]
    engine: str
    config: dict[str, Any]
    metrics: dict[str, Any]
    parent: str | None
    data_digest: str
    promoted: bool
    reason: str

    def __post_init__(self) -> None:
        if not isinstance(self.number, int) or self.number < 1:
            raise ValueError(f"a version's number counts from 1, got {self.number!r}")

    @property
    def name(self) -> str:
        """`maskal-r<number>`, which is also Label Studio's model_version."""
        return version_name(self.number)


@dataclass(frozen=True)
class Version(VersionFields):
    """A stored version; `created` is ISO 8601 in UTC, `weights_sha256` the hash of weights.safetensors in hex."""

    weights_sha256: str
    created: str


@dataclass(frozen=True)
class _OfClass:
    mask_ap: float | None
    instances: int = 0


@dataclass(frozen=True)
class _Interval:
    mask_ap: tuple[float, float] | None
    per_class: dict[str, tuple[float, float] | None] | None = None


@dataclass(frozen=True)
class _Training:
    images: int = 0
    objects: dict[str, int] | None = None
    learning_rate: float = 0.0
    repeat_factor_smallest_class: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class _Measured:
    """What was measured on images of one kind."""

    mask_ap: float | None = None
    images: int = 0
    left_out: dict[str, int] | None = None
    interval: _Interval | None = None


@dataclass(frozen=True)
class _Metrics(_Measured):
    """What of a version's metrics is shown and compared, wherever they have it; `test` on its test images."""

    per_class: dict[str, _OfClass] | None = None
    training: _Training | None = None
    test: _Measured | None = None


@dataclass(frozen=True)
class _Config:
    """What of a version's config is shown."""

    network: str | None = None
    image_size: tuple[int, int] | None = None
    anchor_sizes: tuple[float, ...] | None = None


def version_name(number: int) -> str:
    """Name of the version with that number."""
    return f"maskal-r{number}"


def version_number(name: str) -> int:
    """Number in a version's name; BadVersion if it is no such name."""
    match = NAME.fullmatch(name)
    if match is None:
        raise BadVersion(f"wanted a version name such as 'maskal-r7', got {name!r}; list them with `maskal status`")
    return int(match[1])


class Registry:
    """Folder `versions/<version>/{weights.safetensors, version.json, ranking.jsonl, summary.json}` and `current`.

    Many processes may read while one writes: a version appears at once and whole, and so does a new `current`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._versions = folder / "versions"
        self._current = folder / "current"

    def names(self) -> tuple[str, ...]:
        """All versions' names by number; looks at folder names only."""
        if not self._versions.is_dir():
            return ()
        found = (entry.name for entry in self._versions.iterdir() if NAME.fullmatch(entry.name))
        return tuple(sorted(found, key=version_number))

    def versions(self) -> tuple[Version, ...]:
        """All readable versions by number; a damaged one is logged and left out, one of a newer release is not."""
        readable = []
        for name in self.names():
            try:
                readable.append(self.get(name))
            except BadVersion as err:
                logger.warning("left out a damaged version: %s", err)
        return tuple(readable)

    def get(self, name: str) -> Version:
        """Facts of one version; BadVersion if it is unknown or its file is damaged, NewerFormat if it is too new."""
        path = self._folder_of(name) / "version.json"
        try:
            version = read_as(path, Version, known_format=FORMAT)
            as_kind(version.metrics, _Metrics, f"the metrics of {path}")
            as_kind(version.config, _Config, f"the config of {path}")
        except (OSError, ValueError) as err:
            raise BadVersion(
                f"version {name} is damaged: {path} cannot be read ({type(err).__name__}: {err}); "
                f"restore the file from a backup or remove the folder {name}"
            ) from err
        if version.name != name:
            raise BadVersion(f"folder {name} holds the version {version.name}; give the folder its own name back")
        return version

    def add(self, fields: VersionFields, write_weights: Callable[[Path], str]) -> Version:
        """Store a new version, whole or not at all; BadVersion if the number is taken.

        `write_weights` writes the file of its weights and returns the file's SHA-256 in hex.
        """
        final = self._versions / fields.name
        if final.exists():
            raise BadVersion(f"version {fields.name} exists already; take next_number()")
        self._versions.mkdir(parents=True, exist_ok=True)
        temporary = temporary_sibling(final)
        try:
            temporary.mkdir()
            version = _write_version(temporary, fields, write_weights)
            sync_folder(temporary)
            _rename_new(temporary, final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        sync_folder(self._versions)
        return version

    def weights_path(self, name: str) -> Path:
        """The file of a version's weights; BadVersion if the version is unknown."""
        return self._folder_of(name) / WEIGHTS

    def current(self) -> str | None:
        """Name of the served version, None before the first; reads one small file and nothing else."""
        try:
            name = self._current.read_text().strip()
        except FileNotFoundError:
            return None
        version_number(name)
        return name

    def set_current(self, name: str) -> None:
        """Serve this version from now on; BadVersion if it is unknown."""
        self._folder_of(name)
        write_atomically(self._current, f"{name}\n")

    def best(self) -> Version | None:
        """The promoted version with the largest mask AP, each on the validation images of its day; None without any.

        By the lower end of its interval, so that one which was lucky on a few images is no measure for all later ones.
        """
        promoted = [version for version in self.versions() if version.promoted]
        return max(promoted, key=_surely, default=None)

    def remove(self, name: str) -> None:
        """Delete a version, which vanishes at once; BadVersion if it is unknown or served."""
        folder = self._folder_of(name)
        if name == self.current():
            raise BadVersion(f"version {name} is served; serve another one before it is deleted")
        vanished = temporary_sibling(folder)
        os.rename(folder, vanished)
        shutil.rmtree(vanished)

    def next_number(self, at_least: int = 0) -> int:
        """Number for a new version: above all stored ones and above `at_least` (Label Studio's own largest)."""
        return 1 + max([at_least, *map(version_number, self.names())])

    def write_ranking(self, name: str, rows: Iterable[RankedTask]) -> None:
        """Replace the ranking that a version made of the tasks."""
        write_rows(self.ranking_path(name), rows)

    def append_ranking(self, name: str, *rows: RankedTask) -> None:
        """Add tasks to a version's ranking; one process at a time."""
        append_rows(self.ranking_path(name), rows)

    def read_ranking(self, name: str, *, with_regions: bool = True) -> tuple[RankedTask, ...]:
        """The ranking that a version made, in the order written; empty if it made none."""
        return read_rows(self.ranking_path(name), with_regions=with_regions)

    def open_ranking(self, name: str, *, only: Container[int] | None = None) -> StoredRows:
        """As `read_ranking`, but each task is read when it is looked at; `only` those tasks. To be closed."""
        return StoredRows(self.ranking_path(name), only)

    def ranked_task(self, name: str, task: int, finder: RowFinder | None = None) -> RankedTask | None:
        """What a version's ranking says of one task, None if it says nothing.

        For many tasks hand the same `finder` over, so that the ranking is read once.
        """
        return (finder or RowFinder()).find(self.ranking_path(name), task)

    def write_summary(self, name: str, summary: Mapping[str, Any]) -> None:
        """Replace what is told of a version without looking at its ranking (JSON)."""
        write_json(self._folder_of(name) / "summary.json", summary, indent=None)

    def read_summary(self, name: str) -> dict[str, Any] | None:
        """What `write_summary` stored; None where a version has none, ValueError where it cannot be read."""
        path = self._folder_of(name) / "summary.json"
        return read_as(path, dict[str, Any]) if path.exists() else None

    def _folder_of(self, name: str) -> Path:
        """Folder of a stored version; the name is checked first, so that none leads out of the registry."""
        version_number(name)
        folder = self._versions / name
        if not folder.is_dir():
            known = ", ".join(self.names()) or "none"
            raise BadVersion(f"version {name} is not in {self._versions}; known versions: {known}")
        return folder

    def ranking_path(self, name: str) -> Path:
        """The file of a version's ranking, one line a task; BadVersion if the version is unknown."""
        return self._folder_of(name) / "ranking.jsonl"


def _write_version(folder: Path, fields: VersionFields, write_weights: Callable[[Path], str]) -> Version:
    """Fill a new version's folder."""
    sha256 = write_weights(folder / WEIGHTS)
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    version = Version(**vars(fields), weights_sha256=sha256, created=created)
    write_json(folder / "version.json", {"format": FORMAT, "name": version.name, **dataclasses.asdict(version)})
    return version


def _rename_new(temporary: Path, final: Path) -> None:
    """Give a finished folder its name; BadVersion if another process took the name meanwhile."""
    try:
        os.rename(temporary, final)
    except OSError as err:
        if final.exists():
            raise BadVersion(f"version {final.name} exists already; take next_number()") from err
        raise


def _surely(version: Version) -> tuple[float, float]:
    """What a version's mask AP surely reaches, and what it was; those of which the former is not known come last."""
    interval = (version.metrics.get("interval") or {}).get("mask_ap")
    return (interval[0] if interval else -1.0, version.metrics.get("mask_ap") or 0.0)
