"""The scores of a ranking's open tasks: by this process alone, or in pieces together with other workers.

Every worker can score every piece, and a task's score is the same whoever computes it: to the digit where they compute
alike, else as in a repeated run. So nobody waits for anybody: what another worker has under way when nothing else is
left is scored here as well, until one of both is done.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from backend.label_studio.client import Task
from backend.project.unreadable import Unreadable
from backend.project.workplace import Workplace
from backend.rounds.choosing import Means
from backend.rounds.cut import PIECE, Conditions, cut_tasks, find_cuts, read_cut, remove_cuts
from backend.rounds.folder import Report, Round
from backend.rounds.ledger import Ledger
from backend.rounds.pieces import Pieces
from backend.rounds.scoring import score_tasks

logger = logging.getLogger(__name__)


class Team(Protocol):
    """The other workers that may take pieces of a ranking; no method raises where they cannot be reached."""

    def has_others(self) -> bool:
        """Whether there are any."""
        ...

    def call(self) -> None:
        """Ask those who do not help yet to do so; may be called often."""
        ...

    def taken(self, piece: str) -> AbstractContextManager[bool]:
        """Take a piece for the block; false if another worker has it. It is ours where nobody can tell."""
        ...


class Scoring:
    """The scoring of a round's open tasks by the process that runs the round."""

    def __init__(self, place: Workplace, current: Round, means: Means, ledger: Ledger, report: Report) -> None:
        self.place, self.current, self.means, self.ledger, self.report = place, current, means, ledger, report
        self._unreadable = Unreadable(place.folder.path)
        self._looked_at, self._total, self._by_others = set[int](), 0, 0

    def run(self, tasks: Sequence[Task], team: Team | None) -> None:
        """Add the scores that are missing, each as soon as it is known; unreadable images are noted and left out."""
        for folder in find_cuts(self.current.pieces):
            self._take_over(folder)
        remove_cuts(self.current.pieces)
        missing = [task for task in tasks if task.id not in self.ledger]
        self._looked_at, self._total = {task.id for task in tasks if task.id in self.ledger}, len(tasks)
        if team is None or len(missing) < 2 * PIECE or not team.has_others():
            self._score(missing)
        else:
            self._share(missing, team)

    def _conditions(self) -> Conditions:
        return Conditions.of(self.place, self.current.version, is_looked_at=bool(self.means.onlooker))

    def _take_over(self, folder: Path) -> None:
        """Take in what others scored in an earlier turn of this round."""
        left = read_cut(folder)
        if left is not None and left.conditions == self._conditions():
            for piece in (pieces := Pieces(folder)).written():
                self._take_in(pieces, piece)

    def _share(self, missing: Sequence[Task], team: Team) -> None:
        """Score pieces from the front, while helpers do from the back; at last those that they have under way."""
        folder, made = cut_tasks(self.current.pieces, self._conditions(), missing, PIECE)
        pieces, left = Pieces(folder), dict(enumerate(made.pieces))
        for piece in list(left):
            team.call()
            for whole in pieces.written():
                self._finish(pieces, whole, left.pop(whole, ()))  # (): one that somebody was late with
            if piece in left:
                with team.taken(pieces.key(piece)) as is_ours:
                    if is_ours:
                        self._finish(pieces, piece, left.pop(piece))
        for piece, tasks in left.items():
            self._finish(pieces, piece, tasks)
        remove_cuts(self.current.pieces)
        logger.info("project %s: %d scores came from other workers", self.place.folder.uid, self._by_others)

    def _finish(self, pieces: Pieces, piece: int, tasks: Sequence[Task]) -> None:
        """See to it that all of a piece is scored, here as far as nobody else does; what others cannot read, too."""
        self._score(tasks, is_enough=lambda: pieces.has_scores(piece))
        if pieces.has_scores(piece):
            self._take_in(pieces, piece)
            self._tell()
            self._score(tasks)
        pieces.note_done(piece)

    def _take_in(self, pieces: Pieces, piece: int) -> None:
        for task, scored in pieces.read(piece):
            if task in self.ledger:
                continue
            self.ledger.add(task, scored)
            if task in self.ledger:  # else what was seen in it is lost
                self._unreadable.clear(task)
                self._looked_at.add(task)
                self._by_others += 1

    def _score(self, tasks: Sequence[Task], *, is_enough: Callable[[], bool] = lambda: False) -> None:
        """Score those tasks that nobody has looked at, until it is enough."""
        left = [task for task in tasks if task.id not in self._looked_at]
        if is_enough():
            return
        for task, scored in score_tasks(self.place, self.means.engine, self.current.version, left, self.means.onlooker):
            if scored is not None:
                self.ledger.add(task.id, scored)
            self._looked_at.add(task.id)
            self._tell()
            if is_enough():
                return

    def _tell(self) -> None:
        self.report("rank", len(self._looked_at) / self._total)
