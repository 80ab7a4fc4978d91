"""The receipt of a project: what each annotation began from and cost, written down before it can no longer be known.

Label Studio forgets which prediction an annotation began with as soon as that prediction is deleted.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from backend.label_studio.client import Task
from backend.label_studio.corrections import Corrections, corrections_of
from backend.label_studio.labels import LabelConfig
from backend.project.workplace import Workplace
from model.files import append_lines, write_json
from model.stored_json import line_as, read_as

logger = logging.getLogger(__name__)

FORMAT = 1
"""Of `receipt.json`; raised when a release writes it so that the one before cannot read it."""

OVERLAP = timedelta(minutes=5)
"""So far back each look begins before the last one: a change may be stored later than one that is dated after it."""


@dataclass(frozen=True)
class Line:
    """One state of a submitted annotation.

    version      which version's prediction it began with; None: none
    is_known     False for annotations of before the receipt, of which `version` says nothing
    lead_time_s  seconds that the annotator had it open, as Label Studio counts them; None for imported ones
    who          number of the user in Label Studio
    when         when it was last changed, as Label Studio writes it
    corrections  what was made of the prediction; None without one
    """

    annotation: int
    task: int
    version: str | None
    is_known: bool
    lead_time_s: float | None
    who: int | None
    when: str
    corrections: Corrections | None = None


@dataclass(frozen=True)
class _Mark:
    """The newest change of any task that a receipt knows, as Label Studio writes it."""

    newest: str


class Receipt:
    """A project's `receipt.jsonl`, to which lines are only added, and `receipt.json`, which says how far it goes."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "receipt.jsonl"
        self._mark = folder / "receipt.json"

    def newest(self) -> dict[int, Line]:
        """The last line of each annotation, by the annotation's id; one that cannot be read is left out."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return {line.annotation: line for line in _read(lines)}

    def mark(self) -> str | None:
        """The newest change of any task that it knows, as Label Studio writes it; None before it was begun."""
        return read_as(self._mark, _Mark, known_format=FORMAT).newest if self._mark.exists() else None

    def add(self, lines: Sequence[Line], mark: str) -> None:
        """Write lines down, and that all changes up to a moment are known; on the disk when this returns."""
        if lines:
            append_lines(self.path, "".join(json.dumps(asdict(line), allow_nan=False) + "\n" for line in lines))
        write_json(self._mark, {"format": FORMAT, **asdict(_Mark(mark))})


def note_annotations(place: Workplace) -> tuple[int, ...]:
    """Write down what was submitted or changed since the last time; the tasks that were touched.

    Called at each look at a project and before predictions are deleted. The first time all older annotations are
    written down, of unknown origin where Label Studio no longer knows it.
    """
    receipt = Receipt(place.folder.path)
    mark, newest = receipt.mark(), place.client.newest_change(place.folder.project_id)
    if not newest or newest == mark:
        return ()
    known = receipt.newest()
    tasks = place.client.annotated_since(place.folder.project_id, _earlier(mark) if mark else None)
    touched: list[int] = []
    lines: list[Line] = []
    for task in tasks:
        touched.append(task.id)
        lines += _new_lines(task, known, place.labels, is_begun=mark is not None)
    receipt.add(lines, newest)
    return tuple(touched)


def _new_lines(task: Task, known: Mapping[int, Line], labels: LabelConfig, *, is_begun: bool) -> Iterator[Line]:
    predictions = {prediction["id"]: prediction for prediction in task.predictions}
    for annotation in task.annotations:
        before = known.get(annotation["id"])
        if annotation.get("was_cancelled") or (before and before.when == annotation["updated_at"]):
            continue
        parent = annotation.get("parent_prediction")
        now = Line(
            annotation=annotation["id"],
            task=task.id,
            version=None,
            is_known=is_begun and parent is None,
            lead_time_s=annotation.get("lead_time"),
            who=_number(annotation.get("completed_by")),
            when=annotation["updated_at"],
        )
        if parent in predictions:
            found = corrections_of(predictions[parent]["result"], annotation["result"], labels)
            now = replace(now, version=predictions[parent]["model_version"], is_known=True, corrections=found)
        elif before is not None:  # its prediction has gone since, or nobody knew it then either
            now = replace(now, version=before.version, is_known=before.is_known, corrections=before.corrections)
        yield now


def _read(lines: Sequence[str]) -> Iterator[Line]:
    for line in lines:
        try:
            yield line_as(line, Line)
        except ValueError:
            logger.warning("a line of receipt.jsonl cannot be read and is left out: %.80s", line)


def _earlier(mark: str) -> str:
    moment = datetime.fromisoformat(mark.replace("Z", "+00:00")) - OVERLAP
    return moment.isoformat().replace("+00:00", "Z")


def _number(user: Any) -> int | None:
    """A user's number: some releases of Label Studio send it alone, others within what they know of the user."""
    found = user.get("id") if isinstance(user, dict) else user
    return found if isinstance(found, int) else None
