"""What became of a project's versions: `history.jsonl`, which outlives the versions that are deleted."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from backend.project.folder import ProjectFolder
from model.errors import BadVersion
from model.files import append_lines
from model.registry import Version, version_number
from model.stored_json import as_kind, line_as

logger = logging.getLogger(__name__)

FILE = "history.jsonl"

VERSIONS_OF = {"measured": ("version",), "rolled back": ("from", "to")}
"""The versions' names in each kind of line."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class OnTest:
    """A version as it was measured on the test images of its day, which have no say in anything; see `Measured`."""

    images: int
    mask_ap: float | None
    interval: Interval | None


@dataclass(frozen=True)
class Measured:
    """A version as it was measured on the validation images of its day.

    annotated   images that were annotated then, those for validation among them
    mask_ap     0..1, None without validation images; `interval` is between which values it lies (95 %)
    per_class   {class: (mask AP, its interval)}
    network     which one it was, None where that was not kept
    test        on the test images, None without any
    """

    version: str
    annotated: int
    mask_ap: float | None
    interval: Interval | None
    per_class: dict[str, tuple[float | None, Interval | None]]
    promoted: bool
    reason: str
    created: str
    network: str | None = None
    test: OnTest | None = None


@dataclass(frozen=True)
class History:
    """All versions that were ever measured, by number, and the names of those that were rolled back."""

    versions: tuple[Measured, ...] = ()
    rolled_back: frozenset[str] = frozenset()


def note_version(folder: ProjectFolder, version: Version) -> None:
    """Keep how good a version was."""
    _append(folder, {"event": "measured", **_facts(version)})


def note_rollback(folder: ProjectFolder, before: str | None, to: str) -> None:
    """Keep that a project is served by `to` again instead of `before`."""
    if before is not None:
        _append(folder, {"event": "rolled back", "from": before, "to": to, "at": _now()})


def read_history(folder: ProjectFolder) -> History:
    """What was kept, and the versions of releases that kept nothing, as far as they are still there."""
    rows = list(_rows(folder))
    facts = {row["version"]: row for row in map(_facts, folder.registry.versions())}
    facts |= {row["version"]: row for row in rows if row["event"] == "measured"}
    versions = tuple(_measured(facts[name]) for name in sorted(facts, key=version_number))
    return History(versions, frozenset(_rolled_back(rows, versions)))


def _rolled_back(rows: Iterable[dict[str, Any]], versions: Iterable[Measured]) -> set[str]:
    """The versions after the one that was gone back to, until they are served again."""
    promoted = [measured.version for measured in versions if measured.promoted]
    gone: set[str] = set()
    for row in rows:
        if row["event"] == "rolled back":
            lower, upper = version_number(row["to"]), version_number(row["from"])
            gone |= {name for name in promoted if lower < version_number(name) <= upper}
            gone.discard(row["to"])
    return gone


def _facts(version: Version) -> dict[str, Any]:
    metrics, interval = version.metrics, version.metrics.get("interval") or {}
    per_class = metrics.get("per_class") or {}
    of_class = interval.get("per_class") or {}
    return {
        "version": version.name,
        "annotated": int((metrics.get("training") or {}).get("images", 0)) + int(metrics.get("images", 0)),
        "mask_ap": metrics.get("mask_ap"),
        "interval": interval.get("mask_ap"),
        "per_class": {name: [of["mask_ap"], of_class.get(name)] for name, of in per_class.items()},
        "promoted": version.promoted,
        "reason": version.reason,
        "created": version.created,
        "network": version.config.get("network"),
        "test": _on_test(metrics["test"]) if metrics.get("test") else None,
    }


def _on_test(metrics: dict[str, Any]) -> dict[str, Any]:
    interval = (metrics.get("interval") or {}).get("mask_ap")
    return {"images": int(metrics.get("images", 0)), "mask_ap": metrics.get("mask_ap"), "interval": interval}


def _measured(row: dict[str, Any]) -> Measured:
    return as_kind(row, Measured, FILE)


def _append(folder: ProjectFolder, row: dict[str, Any]) -> None:
    append_lines(folder.path / FILE, json.dumps(row, allow_nan=False) + "\n")


def _rows(folder: ProjectFolder) -> Iterator[dict[str, Any]]:
    path = folder.path / FILE
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            row = line_as(line, dict[str, Any])
            if row["event"] == "measured":
                _measured(row)
            for name in VERSIONS_OF.get(row["event"], ()):
                version_number(str(row[name]))
            yield row
        except (ValueError, KeyError, BadVersion):
            logger.warning("a line of %s cannot be read and is left out: %.80s", FILE, line)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
