"""A ranking's books: the scores of its tasks and what is seen in them, on disk as soon as they are known."""

from __future__ import annotations

from types import TracebackType

from backend.rounds.folder import Round
from backend.rounds.scored import Scored
from backend.rounds.scores import Scores
from backend.rounds.seen_objects import encoded_row, open_seen, read_seen


class Ledger:
    """Takes the scores of tasks into a round's files; a context manager.

    is_looked_at: whether a task lacks something as long as nobody has said what is seen in it
    """

    def __init__(self, current: Round, scores: Scores, *, is_looked_at: bool) -> None:
        self._scores, self._is_looked_at = scores, is_looked_at
        self._seen = set(read_seen(current.seen_objects))
        self._objects = open_seen(current.seen_objects)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, at: TracebackType | None) -> None:
        self._objects.close()

    def __contains__(self, task: int) -> bool:
        return task in self._scores and (not self._is_looked_at or task in self._seen)

    def add(self, task: int, scored: Scored) -> None:
        """Keep what is known of a task from now on."""
        if scored.seen:
            self._objects.write(encoded_row(task, scored.seen))
            self._objects.flush()
            self._seen.add(task)
        self._scores.add(task, scored)
