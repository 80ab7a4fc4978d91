"""A round on disk: `rounds/<number>/` with its state, its snapshot and what it was trained on."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from backend.errors import ImageUnavailable, LabelStudioBusy, LabelStudioError
from backend.label_studio.labels import LabelConfig, parse_label_config
from backend.project.folder import ProjectFolder
from backend.rounds.faults import in_words, mends_elsewhere
from backend.rounds.snapshots import LeftOut, Snapshot, read_snapshot
from model.files import write_atomically, write_json
from model.registry import version_name
from model.stored_json import as_kind, read_as

STATES = ("started", "read", "trained", "evaluated", "ranked", "pushed", "current", "published")
CANCELLABLE = ("read", "prepare", "train", "evaluate")
"""Steps before a version is accepted."""

REFUSED, FAILED, CANCELLED = "refused", "failed", "cancelled"
MAX_ATTEMPTS = 3
BACK_OFF_S = (30.0, 120.0)
WAIT_S, LONGEST_WAIT_S = 60.0, 900.0
"""When a round that waits for what mends elsewhere looks again: first and at most; each time twice as late."""

PLAN = "plan.json"

ANNOTATED = "annotations.jsonl"
"""What a round learns from and is measured on; goes with its version, as all rounds' together would fill a disk."""

FORMAT = 1
"""Of `state.json`; raised when a release writes it so that the one before cannot read it."""


class Report(Protocol):
    """Takes a step's name, its done share, 0..1, and whatever else is worth telling of it (JSON)."""

    def __call__(self, step: str, share: float, **details: Any) -> None:
        """Tell how far a step is."""
        ...


@dataclass(frozen=True)
class AnnotatedImage:
    """One annotated task as a round found it: its image's address and size, its split, and the annotation's regions.

    group  what its image belongs to, such as a plant; empty in rounds of releases that kept none
    """

    task: int
    uri: str
    size_hw: tuple[int, int]
    split: str
    annotation: int
    regions: list[dict[str, Any]]
    group: str = ""


@dataclass
class RoundState:
    """What `state.json` holds.

    state moves forward through STATES, or ends as refused, cancelled or failed; attempts counts errors; retry_at is
    Unix time; reason is the gate's verdict or why it failed; is_forced: somebody asked for it; waits counts the looks
    at things that mend elsewhere, such as images of which too few can be read; begun counts how often work on this step
    began, as a killed worker cannot say that it ended; seconds per step, all turns at it together.
    """

    number: int
    state: str = STATES[0]
    attempts: int = 0
    error: str | None = None
    retry_at: float = 0.0
    reason: str | None = None
    is_forced: bool = False
    waits: int = 0
    begun: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.state not in (known := (*STATES, REFUSED, FAILED, CANCELLED)):
            raise ValueError(f"a round's state must be one of {', '.join(known)}, got {self.state!r}")


class Round:
    """A round's folder; the number is that of the version it makes. NewerFormat, DamagedFile if it cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        stored = path / "state.json"
        self.state = read_as(stored, RoundState, known_format=FORMAT) if stored.exists() else RoundState(int(path.name))

    @property
    def version(self) -> str:
        """Name of the version that this round makes."""
        return version_name(self.state.number)

    @property
    def weights(self) -> Path:
        """Where the trained weights wait for the gate."""
        return self.path / "weights.safetensors"

    @property
    def checkpoint(self) -> Path:
        """Where training keeps what it has come to, for the case that it is killed."""
        return self.path / "training.safetensors"

    @property
    def scores(self) -> Path:
        """Where ranking keeps the score of each task as soon as it is known."""
        return self.path / "scores.jsonl"

    @property
    def seen_objects(self) -> Path:
        """Where ranking keeps what the untouched backbone sees in each task, if a strategy asks for that."""
        return self.path / "seen_objects.bin"

    @property
    def pieces(self) -> Path:
        """Where ranking is cut into pieces, if several workers take part in it."""
        return self.path / "pieces"

    @property
    def is_concluded(self) -> bool:
        """Whether nothing is left to do and the next round waits for new annotations."""
        return self.state.state in (STATES[-1], REFUSED, CANCELLED)

    @property
    def can_be_cancelled(self) -> bool:
        """Whether its version is not accepted yet."""
        return self.state.state in STATES[: STATES.index("evaluated")]

    @property
    def is_waiting(self) -> bool:
        """Whether its next try is still to come; a time too far off is that of a clock that was set back since."""
        return time.time() < self.state.retry_at <= time.time() + LONGEST_WAIT_S

    def begin(self) -> None:
        """Note that a worker begins to work on it; where those before were killed, the next one waits longer."""
        self.state.begun += 1
        self.state.retry_at = time.time() + _longer(self.state.begun - 2) if self.state.begun > 1 else 0.0
        self.save()

    def hand_back(self) -> None:
        """Note that its worker stops in good order, so that another one can go on at once."""
        self.state.begun, self.state.retry_at = 0, 0.0
        self.save()

    def cancel(self) -> None:
        """Conclude it without a version."""
        self.state.state, self.state.reason, self.state.error = CANCELLED, "cancelled", None
        self.tidy()
        self.save()

    def tidy(self) -> None:
        """Remove what only work on it needs; the scores and what is seen grow with the project's tasks."""
        for path in (self.weights, self.checkpoint, self.scores, self.seen_objects):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.pieces, ignore_errors=True)

    @property
    def is_unfinished(self) -> bool:
        """Whether work is left on it; a failed round is not taken up again."""
        return not self.is_concluded and self.state.state != FAILED

    def save(self) -> None:
        """Write the state; it is on the disk when this returns."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.path / "state.json", {"format": FORMAT, **asdict(self.state)})

    def snapshot(self) -> Snapshot | None:
        """What was annotated when this round began, None before it has read that."""
        path = self.path / "snapshot.json"
        return read_snapshot(path) if path.exists() else None

    def labels(self) -> LabelConfig:
        """The labelling config as it was when this round began."""
        return parse_label_config((self.path / "label_config.xml").read_text())

    def annotated(self) -> list[AnnotatedImage]:
        """The annotated images that can be used."""
        path = self.path / ANNOTATED
        return [as_kind(json.loads(line), AnnotatedImage, str(path)) for line in path.read_text().splitlines()]

    def write_annotated(self, rows: Iterable[AnnotatedImage], label_config: str) -> None:
        """Keep annotated images and labelling config, so that the round stays with them whatever changes meanwhile."""
        write_atomically(self.path / "label_config.xml", label_config)
        write_atomically(self.path / ANNOTATED, "".join(json.dumps(asdict(row)) + "\n" for row in rows))

    def note_failure(self, err: Exception) -> None:
        """Keep why the round stopped and when to go on; after three attempts it waits for new data.

        What mends elsewhere counts as no attempt: Label Studio, the disk, memory, a GPU that is gone, damaged weights,
        images' servers. Where it may need other settings or another version to start from, its training is planned
        anew, and so is one that diverged.
        """
        self.state.begun = 0
        self.state.error = in_words(err)
        if isinstance(err, LabelStudioBusy):
            self.state.retry_at = time.time() + BACK_OFF_S[0]
        elif mends_elsewhere(err):
            self.state.retry_at = time.time() + _longer(self.state.waits)
            self.state.waits += 1
            if self.state.state == "read" and not isinstance(err, LabelStudioError | ImageUnavailable | OSError):
                (self.path / PLAN).unlink(missing_ok=True)
        else:
            self.state.attempts += 1
            if self.state.state == "read" and isinstance(err, FloatingPointError):
                (self.path / PLAN).unlink(missing_ok=True)
            if self.state.attempts >= MAX_ATTEMPTS:
                self.state.state, self.state.reason = FAILED, self.state.error
                self.tidy()
            else:
                self.state.retry_at = time.time() + BACK_OFF_S[self.state.attempts - 1]
        self.save()


def _longer(times: int) -> float:
    """How long to wait after so many waits before, in seconds."""
    return float(min(LONGEST_WAIT_S, WAIT_S * 2 ** min(times, 10)))


def all_rounds(folder: ProjectFolder) -> list[Round]:
    """The project's rounds, oldest first."""
    paths = [p for p in folder.rounds.iterdir() if p.name.isdigit()] if folder.rounds.is_dir() else []
    return [Round(p) for p in sorted(paths, key=lambda p: int(p.name)) if (p / "state.json").exists()]


def left_out_before(folder: ProjectFolder, label_config: str) -> tuple[LeftOut, ...]:
    """What the newest round could not read of annotations; nothing if the labelling config has changed since."""
    for begun in reversed(all_rounds(folder)):
        snapshot, config = begun.snapshot(), begun.path / "label_config.xml"
        if snapshot is not None and config.exists():  # not one that was cancelled before it had looked at the images
            return snapshot.left_out if config.read_text() == label_config else ()
    return ()


def has_smart_tool(folder: ProjectFolder) -> bool:
    """Whether the labelling config had a smart tool when the newest round read it."""
    begun = [r for r in all_rounds(folder) if (r.path / "label_config.xml").exists()]
    return bool(begun) and begun[-1].labels().has_smart_tool


def ended_rounds(folder: ProjectFolder) -> int:
    """How many rounds made a version, whether it was accepted or not."""
    return sum(one.is_concluded and one.state.state != CANCELLED for one in all_rounds(folder))


def last_concluded(folder: ProjectFolder) -> Round | None:
    """The newest round that ended without a failure: published, refused or cancelled."""
    return next((r for r in reversed(all_rounds(folder)) if r.is_concluded), None)


def unfinished(folder: ProjectFolder) -> Round | None:
    """The newest round, if work is left on it."""
    rounds = all_rounds(folder)
    return rounds[-1] if rounds and rounds[-1].is_unfinished else None


def start_round(folder: ProjectFolder, known_number: int, *, is_forced: bool = False) -> Round:
    """A new round, numbered above the registry, the other rounds and `known_number` (Label Studio's largest)."""
    rounds = all_rounds(folder)
    number = folder.registry.next_number(max(known_number, rounds[-1].state.number if rounds else 0))
    new = Round(folder.rounds / str(number))
    new.state.is_forced = is_forced
    new.save()
    return new
