"""Snapshots of what is annotated, and the need for a round: the difference between two of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from backend.counted import counted
from backend.label_studio.annotations import annotation_digest, choose_annotation, unread_regions
from backend.label_studio.client import Task
from backend.label_studio.labels import LabelConfig
from backend.label_studio.replaced import Replacement
from model.files import write_json
from model.stored_json import read_as

VAL_SHARE = 0.15
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Entry:
    """One annotated task: the annotation that counts, a hash of what it says, and the task's split."""

    task: int
    annotation: int
    digest: str
    split: str


@dataclass(frozen=True)
class LeftOut:
    """An annotated task that does not count: why, one line each.

    Either not all of its regions can be read, and learning from the others would teach that what is left out is
    background; or its image was replaced since, which is looked up each time, so that `digest` is empty.
    """

    task: int
    annotation: int
    digest: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Snapshot:
    """All annotated tasks at one moment, by task id.

    problems    what was not used as it was meant, one line each
    left_out    annotated tasks that are no entries
    newest      the newest change of any task before the tasks were read, as Label Studio writes it; empty if unknown
    """

    entries: tuple[Entry, ...]
    problems: tuple[str, ...] = field(default=())
    left_out: tuple[LeftOut, ...] = ()
    newest: str = ""

    @property
    def digest(self) -> str:
        """Hash of the whole snapshot: which tasks, with which content, in which split."""
        rows = [(e.task, e.digest, e.split) for e in self.entries]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    @property
    def left_out_in_words(self) -> str:
        """How many annotated tasks do not count."""
        left_out = len(self.left_out)
        return "1 annotated task does not count" if left_out == 1 else f"{left_out} annotated tasks do not count"

    def count(self, split: str) -> int:
        """Number of annotated tasks in a split."""
        return sum(entry.split == split for entry in self.entries)


@dataclass(frozen=True)
class Need:
    """Whether a round is due, and why; `missing` annotations until it is, None where none begins by itself any more."""

    is_due: bool
    changed: int
    missing: int | None
    reason: str


def split_of(data: Mapping[str, Any], task_id: int, uid: str) -> str:
    """A task's split: `split` of its data, else a hash of `split_group` or of its id, seeded by the project's uid.

    The same for ever, without being stored; 15 % are validation tasks.
    """
    if data.get("split") in SPLITS:
        return str(data["split"])
    share = int.from_bytes(hashlib.sha256(f"{uid}:{group_of(data, task_id)}".encode()).digest()[:8], "big") / 2**64
    return "val" if share < VAL_SHARE else "train"


def group_of(data: Mapping[str, Any], task_id: int) -> str:
    """What a task's image belongs to: `split_group` of its data, or nothing but itself."""
    group = data.get("split_group")
    return str(task_id if group is None or group == "" else group)


def take_snapshot(
    tasks: Iterable[Task],
    uid: str,
    labels: LabelConfig,
    known: Collection[LeftOut] = (),
    replacement_of: Callable[[Task], Replacement | None] = lambda task: None,
) -> tuple[Snapshot, dict[int, tuple[Task, dict[str, Any]]]]:
    """The snapshot of those tasks, and for each entry the task and the annotation that counts.

    `known` are those that a round had to leave out when it read their masks; until they are edited they stay so.
    `replacement_of` tells what a task's image was replaced by; what was annotated before is left out.
    """
    entries, left_out, chosen = [], [], {}
    before = {(one.task, one.digest): one for one in known}
    for task in sorted(tasks, key=lambda t: t.id):
        annotation = choose_annotation(task.annotations)
        if annotation is None:
            continue
        digest = annotation_digest(annotation)
        reasons, replacement = unread_regions(annotation, labels), replacement_of(task)
        if replacement is not None and (why := replacement.reasons_against(annotation)):
            left_out.append(LeftOut(task.id, annotation["id"], "", why))
        elif reasons:
            left_out.append(LeftOut(task.id, annotation["id"], digest, reasons))
        elif (task.id, digest) in before:
            left_out.append(before[task.id, digest])
        else:
            entries.append(Entry(task.id, annotation["id"], digest, split_of(task.data, task.id, uid)))
            chosen[task.id] = (task, annotation)
    return Snapshot(tuple(entries), left_out=tuple(left_out)), chosen


def changed_tasks(now: Snapshot, before: Snapshot | None) -> int:
    """Number of tasks that are new, edited or no longer annotated since `before`."""
    old = {e.task: e.digest for e in before.entries} if before else {}
    new = {e.task: e.digest for e in now.entries}
    return sum(old.get(task) != new.get(task) for task in old.keys() | new.keys())


def assess_need(
    now: Snapshot, before: Snapshot | None, *, initial_datasize: int, pool_size: int, is_forced: bool = False
) -> Need:
    """Whether a round is due, given the snapshot of the last concluded round (None before the first).

    Test images do not count for the first round, which could learn nothing from a set that was annotated before.
    """
    changed = changed_tasks(now, before)
    wanted = pool_size if before else initial_datasize
    tests = now.count("test")
    have = changed if before else len(now.entries) - tests
    missing = max(0, wanted - have)
    aside = f"; {now.left_out_in_words}" if now.left_out else ""
    if now.count("train") == 0:
        others = " and the test images" if tests else ""
        reason = f"no annotated task outside of the validation split{others} yet"
        return Need(False, changed, max(1, missing), f"{reason}{aside}")
    if is_forced:
        return Need(True, changed, 0, "asked for")
    uncounted = f", not counting {counted(tests, 'test image')}" if tests else ""
    what = "new or changed annotations" if before else f"annotated tasks{uncounted}"
    return Need(missing == 0, changed, missing, f"{have} of {wanted} {what}{aside}")


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Store a snapshot as JSON."""
    write_json(path, asdict(snapshot))


def read_snapshot(path: Path) -> Snapshot:
    """Read a stored snapshot; DamagedFile if it is none."""
    return read_as(path, Snapshot)
