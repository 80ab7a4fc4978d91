"""Sending a version's predictions: few large calls, and each prediction once even if a call was cut off."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from backend.errors import LabelStudioBusy, LabelStudioError, TooLarge
from backend.label_studio.client import LabelStudio
from model.files import write_json
from model.rankings import RankedTask
from model.stored_json import read_as

logger = logging.getLogger(__name__)

PUSH_ROWS = 20_000
PUSH_BYTES = 64e6
"""Limits of one call. Each costs the server a count of the whole project, so few large ones are the quickest."""

Body = tuple[int, str]
"""A task's id, and its prediction as JSON."""

FEW = 50
LONGEST_CALL_S = 300.0
POLL_S = 1.0


@dataclass(frozen=True)
class Sent:
    """A call on its way.

    rows    predictions in it
    before  predictions that the server held when it began
    at      when that was (Unix time)
    """

    rows: int
    before: int
    at: float


class Pusher:
    """Sends predictions of one version of one project.

    `journal` is a file that says which call is on its way. Who goes on after a kill or a time-out waits until that
    call has arrived, or cannot arrive any more, before it looks at what is missing. What a proxy takes in one call is
    kept in a file beside it.
    """

    def __init__(self, client: LabelStudio, project_id: int, version: str, journal: Path) -> None:
        self.client, self.project_id, self.version, self.journal = client, project_id, version, journal

    def push(self, rows: Sequence[RankedTask], on_progress: Callable[[float], None] = lambda share: None) -> int:
        """Send the predictions that the server does not hold yet; returns how many. Deleted tasks are left out.

        The rows are looked at again for each call, and only those of a call at once: they may stand on the disk.
        """
        held = self._settle()
        arrived = self._arrived(rows) if held else set()
        missing: Sequence[int] = range(len(rows))
        if arrived:
            missing = [at for at, row in enumerate(rows) if row.task not in arrived]
        limit, done = _CallLimit(self.journal.with_name("push-limit.json")), 0
        while done < len(missing):
            chunk = self._first((rows[at] for at in missing[done : done + PUSH_ROWS]), limit.size)
            size = sum(len(text) for _, text in chunk)
            try:
                self._send(chunk, held + done)
            except TooLarge as err:
                if len(chunk) == 1:
                    raise TooLarge(f"the prediction of task {chunk[0][0]} alone cannot be sent: {err}") from err
                limit.note_refused(size)
                continue
            limit.note_taken(size)
            done += len(chunk)
            on_progress(done / len(missing))
        logger.info("project %d: %d predictions of %s pushed", self.project_id, done, self.version)
        return done

    def _held(self) -> int:
        return self.client.model_versions(self.project_id).get(self.version, 0)

    def _settle(self) -> int:
        """Number of predictions that the server holds, once the last call is over."""
        if not self.journal.exists():
            return self._held()
        last = read_as(self.journal, Sent)
        logger.info("project %d: waiting for a call that was cut off (%d predictions)", self.project_id, last.rows)
        wait_s = min(last.at + LONGEST_CALL_S - time.time(), LONGEST_CALL_S)  # the clock may have been set back since
        deadline = time.monotonic() + wait_s
        while (held := self._held()) < last.before + last.rows and time.monotonic() < deadline:
            time.sleep(POLL_S)
        self.journal.unlink()
        return held

    def _arrived(self, rows: Sequence[RankedTask]) -> set[int]:
        if len(rows) > FEW:
            return self.client.tasks_with_version(self.project_id, self.version)
        versions = {row.task: {p["model_version"] for p in self.client.predictions(row.task)} for row in rows}
        return {task for task, names in versions.items() if self.version in names}

    def _first(self, rows: Iterator[RankedTask], limit: float) -> list[Body]:
        """As many of the predictions as one call may hold, at least one."""
        chunk: list[Body] = []
        size = 0
        for row in rows:
            text = json.dumps(prediction(row, self.version))
            size += len(text)
            if chunk and size > limit:
                break
            chunk.append((row.task, text))
        return chunk

    def _send(self, chunk: Sequence[Body], held: int) -> None:
        write_json(self.journal, asdict(Sent(len(chunk), held, time.time())))
        try:
            created = self._import(chunk)
        except LabelStudioBusy:
            raise  # it may still arrive: the journal stays
        except TooLarge:
            self.journal.unlink()
            raise
        except LabelStudioError:
            existing = {task.id for task in self.client.tasks(self.project_id)}
            present = [body for body in chunk if body[0] in existing]
            if len(present) == len(chunk):
                self.journal.unlink()
                raise
            chunk, created = present, self._import(present)
        self.journal.unlink()
        if created < len(chunk):
            raise LabelStudioError(
                f"Label Studio took {created} of {len(chunk)} predictions of {self.version} and gave no reason; its "
                "releases before 1.23 leave out brushes, and labels beside their shapes: update it"
            )

    def _import(self, chunk: Sequence[Body]) -> int:
        if not chunk:
            return 0
        return self.client.import_predictions(self.project_id, f"[{','.join(text for _, text in chunk)}]")


def prediction(row: RankedTask, version: str) -> dict[str, Any]:
    """A ranked task as Label Studio's bulk import takes it."""
    return {"task": row.task, "score": row.score, "model_version": version, "result": row.regions}


@dataclass(frozen=True)
class _Taken:
    """How many bytes of one call the server took."""

    bytes: int


class _CallLimit:
    """How large a call may be: as much as the server took last time, and twice that for the first call of a push.

    So a proxy's limit is found once, and noticed when it has been raised.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.taken = read_as(path, _Taken).bytes if path.exists() else None
        self.size = PUSH_BYTES if self.taken is None else min(PUSH_BYTES, 2 * self.taken)

    def note_refused(self, size: int) -> None:
        """A call of that size was too large: halve it."""
        self.size = size // 2
        self._keep(self.size)

    def note_taken(self, size: int) -> None:
        """A call of that size passed; where that was in doubt, it is remembered."""
        if self.taken is not None and size > self.taken:
            self._keep(size)

    def _keep(self, size: int) -> None:
        self.taken = size
        write_json(self.path, asdict(_Taken(size)))
