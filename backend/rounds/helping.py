"""A second worker's part in a ranking: it scores pieces from the back until there are none, or it has to go."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from typing import Protocol

from backend.errors import BadImage, ImageUnavailable
from backend.label_studio.client import Task
from backend.project.workplace import Workplace
from backend.rounds.choosing import open_onlooker
from backend.rounds.cut import Conditions, find_cuts, read_cut
from backend.rounds.engines import load_engine
from backend.rounds.folder import Round
from backend.rounds.pieces import Pieces
from backend.rounds.scored import Scored
from backend.rounds.scoring import Scorer, score_by

logger = logging.getLogger(__name__)

MOST_UNREADABLE = 12
"""Images of a piece; where more cannot be read, it may be this machine that reaches no images."""


class Duty(Protocol):
    """What a helper is told by those who called it."""

    def is_over(self) -> bool:
        """Whether the round is no longer at it, or another one waits for this worker; may be asked often."""
        ...

    def taken(self, piece: str) -> AbstractContextManager[bool]:
        """Take a piece for the block; false if another worker has it."""
        ...


def help_rank(place: Workplace, current: Round, duty: Duty) -> None:
    """Score pieces of a round's ranking; what stops it harms nobody but is raised: the round does without.

    Images that cannot be read here are left to the round's own process, which notes them if it can read them neither.
    """
    found = [(folder, made) for folder in find_cuts(current.pieces) if (made := read_cut(folder)) is not None]
    for folder, made in found:
        if made.conditions.is_of_this_release:
            _Helper(place, made.conditions, Pieces(folder), duty).score(made.pieces)
        else:
            words = "project %s: no help for round %d, which release %s is at; install the same everywhere"
            logger.warning(words, place.folder.uid, current.state.number, made.conditions.release)


class _Helper:
    """Scores pieces as the round's own process does."""

    def __init__(self, place: Workplace, conditions: Conditions, pieces: Pieces, duty: Duty) -> None:
        self._place, self._version, self._pieces, self._duty = conditions.at(place), conditions.version, pieces, duty
        engine = load_engine(self._place, self._version)
        onlooker = open_onlooker(self._place) if conditions.is_looked_at else None
        self._scorer = Scorer(engine, self._place.labels, self._place.config.scoring_config(), onlooker)

    def score(self, pieces: Sequence[Sequence[Task]]) -> None:
        """Take one free piece after the other, from the back, and write what it scores."""
        scored = 0
        for piece, tasks in reversed(list(enumerate(pieces))):
            if self._is_over():
                break
            with self._duty.taken(self._pieces.key(piece)) as is_ours:
                found = self._scored(piece, tasks) if is_ours else None
                if found is not None:
                    with suppress(FileNotFoundError):  # the round has just done it all without us
                        self._pieces.write(piece, found)
                        scored += len(found)
        logger.info("project %s: helped %s with %d scores", self._place.folder.uid, self._version, scored)

    def _is_over(self) -> bool:
        return self._duty.is_over() or not self._pieces.are_wanted

    def _scored(self, piece: int, tasks: Sequence[Task]) -> list[tuple[int, Scored]] | None:
        """The scores of those tasks that can be read; None where nobody wants them any more, or somebody has them."""
        found: list[tuple[int, Scored]] = []
        if not self._pieces.is_free(piece):
            return None
        for task, scored in score_by(self._scorer, self._place, self._version, tasks, _Unread()):
            if self._is_over() or not self._pieces.is_free(piece):
                return None
            if scored is not None:
                found.append((task.id, scored))
        return found


class _Unread:
    """Counts the images of a piece that cannot be read; ImageUnavailable once they are too many."""

    def __init__(self) -> None:
        self._count = 0

    def note(self, task_id: int, err: BadImage) -> None:
        """One more; which it is the round's process says, if it cannot read it either."""
        self._count += 1
        if self._count > MOST_UNREADABLE:
            raise ImageUnavailable(f"{self._count} images of one piece cannot be read here, the last: {err}") from err

    def clear(self, task_id: int) -> None:
        """Nothing to do."""
