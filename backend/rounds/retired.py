"""Versions that annotators are no longer given, and for how long: their predictions may still be on a screen."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from model.files import write_json
from model.stored_json import read_as

logger = logging.getLogger(__name__)

LONGEST_STEP_S = 120.0
"""What one look adds at most, however far the clock has moved since the last one."""

FORMAT = 1
"""Of `retired.json`; raised when a release writes it so that the one before cannot read it."""


@dataclass(frozen=True)
class _Stored:
    """When the versions were last looked at (Unix time), and the seconds that each has been retired."""

    looked_at: float
    retired_s: dict[str, float]


class Retired:
    """A project's `retired.json`: when it was last looked at, and the seconds that each version has been retired.

    The seconds are counted from look to look rather than taken from a date, so that a clock that jumps, or a night
    without a worker, adds a step and no more. A version that is not in the file (a new one, or all of them where an
    older release wrote none) begins at 0, which only keeps its predictions longer.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "retired.json"

    def count(self, versions: Collection[str], now: float) -> dict[str, float]:
        """The seconds that each of these versions has been retired by `now` (Unix time); others are forgotten."""
        looked_at, before_s = self._read()
        step_s = min(max(now - looked_at, 0.0), LONGEST_STEP_S)
        retired_s = {version: before_s[version] + step_s if version in before_s else 0.0 for version in versions}
        if before_s or retired_s:
            self._write(now, retired_s)
        return retired_s

    def go_on(self, now: float) -> dict[str, float]:
        """As `count`, for the versions that were counted last."""
        return self.count(self._read()[1], now)

    def forget(self, *versions: str) -> None:
        """Let these versions begin at 0 again when they are retired next, as annotators are given them now."""
        looked_at, before_s = self._read()
        kept_s = {version: seconds for version, seconds in before_s.items() if version not in versions}
        if kept_s != before_s:
            self._write(looked_at, kept_s)

    def _read(self) -> tuple[float, dict[str, float]]:
        try:
            stored = read_as(self.path, _Stored, known_format=FORMAT)
            return stored.looked_at, stored.retired_s
        except FileNotFoundError:
            return 0.0, {}
        except ValueError as err:
            logger.warning(
                "%s cannot be read (%s); predictions of old versions are kept for a whole task lock from now on",
                self.path,
                err,
            )
            return 0.0, {}

    def _write(self, looked_at: float, retired_s: dict[str, float]) -> None:
        write_json(self.path, {"format": FORMAT, **asdict(_Stored(looked_at, retired_s))})
