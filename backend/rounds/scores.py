"""A round's `scores.jsonl`: what its version makes of each task, on disk as soon as it is known."""

from __future__ import annotations

import json
import logging
from array import array
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from backend.rounds.scored import Scored

logger = logging.getLogger(__name__)


class Scores:
    """The scores in a file, to be added to; all but the regions, which are most of it, are in memory as well.

    A context manager. A line that a crash cut off is removed, and one that is broken left out with a warning: such
    tasks are scored again.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab+")
        self._found: dict[int, Scored] = {}
        self._at: dict[int, int] = {}
        self._end = 0
        self._file.seek(0)
        for line in self._file:
            if line.endswith(b"\n"):
                self._keep(line, path)
                self._end += len(line)
        self._file.truncate(self._end)

    def __enter__(self) -> Scores:
        return self

    def __exit__(self, *raised: object) -> None:
        self._file.close()

    def __contains__(self, task: int) -> bool:
        return task in self._at

    def add(self, task: int, scored: Scored) -> None:
        """Keep a task's score, the file's last line from then on."""
        line = encoded_score(task, scored)
        self._file.write(line)
        self._file.flush()
        self._note(task, scored)
        self._end += len(line)

    def without_regions(self, tasks: Sequence[int]) -> dict[int, Scored]:
        """The scores of those of the tasks that have one, in their order."""
        return {task: self._found[task] for task in tasks if task in self._found}

    def regions(self, task: int) -> list[dict[str, Any]]:
        """The pre-label of a task, read from the file; KeyError if it has no score."""
        self._file.seek(self._at[task])
        regions: list[dict[str, Any]] = json.loads(self._file.readline())["regions"]
        return regions

    def _keep(self, line: bytes, path: Path) -> None:
        try:
            self._note(*decoded_score(line))
        except (ValueError, TypeError):
            logger.warning("a torn line in %s is left out; its task is scored again", path.name)

    def _note(self, task: int, scored: Scored) -> None:
        counts, embedding = array("f", scored.class_counts), array("f", scored.embedding)  # an eighth of a tuple's size
        self._found[task] = replace(scored, regions=[], class_counts=counts, embedding=embedding, seen=None)
        self._at[task] = self._end


def encoded_score(task: int, scored: Scored) -> bytes:
    """A task's line of the file."""
    return json.dumps({"task": task, **scored.as_json()}).encode() + b"\n"


def decoded_score(line: bytes) -> tuple[int, Scored]:
    """The task of a line and its score; ValueError if the line is broken."""
    try:
        row: dict[str, Any] = json.loads(line)
        return int(row.pop("task")), Scored(**row)
    except (KeyError, TypeError, AttributeError) as err:
        raise ValueError(f"wanted a task's score, got {line[:60]!r}") from err
