"""Checks, what came of them, and the job that makes a part's checks one after the other."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from model.files import read_json, write_json
from tests.gpu.scale import FULL, QUICK, Scale

PASSED, FAILED, NOT_APPLICABLE, SKIPPED = "passed", "failed", "not applicable", "skipped"
NO_TIME_LEFT = "no time left"


class NotApplicable(Exception):
    """A check that means nothing on this machine; says why."""


class Missing(Exception):
    """What an earlier part should have left; says what."""


LEFT_OUT: dict[type[Exception], str] = {NotApplicable: NOT_APPLICABLE, Missing: SKIPPED}
"""What becomes of a check that raises these."""


@dataclass(frozen=True)
class Check:
    """What came of a check.

    figures   what was measured (JSON)
    problem   why it failed or was left out, "" where it passed
    peak_mib  GPU memory in use at most, None without a GPU
    """

    part: str
    name: str
    status: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    seconds: float = 0.0
    peak_mib: int | None = None


@dataclass(frozen=True)
class Measured:
    """Figures of a check (JSON), and what is wrong with them, "" if nothing is."""

    figures: Mapping[str, Any]
    problem: str = ""


class Job:
    """A part's checks: each is written to a file as soon as it is done, and none stops the next.

    ends_at   time.time() at which the process is stopped
    folder    what parts leave to each other, and their checks
    """

    def __init__(self, part: str, device: str, is_quick: bool, ends_at: float, folder: Path) -> None:
        self.part, self.device, self.ends_at, self.folder = part, torch.device(device), ends_at, folder
        self.scale: Scale = QUICK if is_quick else FULL
        self._checks: list[Check] = []

    @property
    def left_s(self) -> float:
        """Seconds that are left."""
        return self.ends_at - time.time()

    @property
    def start(self) -> Path:
        """Weights of the network that was trained briefly."""
        return self.folder / "start.safetensors"

    def check(self, name: str, measure: Callable[[], Measured], needs_s: float = 0.0) -> None:
        """Measure and note it; where less time is left than it needs, note that."""
        if self.left_s < needs_s:
            self.note(Check(self.part, name, SKIPPED, problem=NO_TIME_LEFT))
            return
        has_gpu = self.device.type == "cuda"
        if has_gpu:
            torch.cuda.reset_peak_memory_stats()
        started = time.monotonic()
        try:
            found = measure()
            status, figures, problem = FAILED if found.problem else PASSED, found.figures, found.problem
        except (NotApplicable, Missing) as err:
            status, figures, problem = LEFT_OUT[type(err)], {}, str(err)
        except Exception:
            status, figures, problem = FAILED, {}, traceback.format_exc()
        seconds = round(time.monotonic() - started, 1)
        peak_mib = torch.cuda.max_memory_allocated() >> 20 if has_gpu else None
        self.note(Check(self.part, name, status, figures, problem, seconds, peak_mib))

    def note(self, check: Check) -> None:
        """Keep what came of a check."""
        self.keep([*self._checks, check])

    def keep(self, checks: Sequence[Check]) -> None:
        """Keep these checks as all that there are so far."""
        self._checks = list(checks)
        write_json(checks_file(self.folder, self.part), [_plain(asdict(c)) for c in self._checks])


def _plain(value: Any) -> Any:
    """As JSON takes it: None for what is no number."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def checks_file(folder: Path, part: str) -> Path:
    """Where a part's checks are."""
    return folder / f"{part}.json"


def read_checks(folder: Path, part: str) -> list[Check]:
    """What a part has come to so far."""
    path = checks_file(folder, part)
    return [Check(**row) for row in read_json(path)] if path.exists() else []
