"""A ranking in pieces, with helpers that work in the same process whenever they are called."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from backend.errors import BadImage, Cancelled
from backend.project.workplace import Workplace
from backend.rounds import cut
from backend.rounds.choosing import Means
from backend.rounds.cut import Conditions
from backend.rounds.engines import load_engine
from backend.rounds.folder import Round
from backend.rounds.ledger import Ledger
from backend.rounds.pieces import Pieces
from backend.rounds.scored import Scored
from backend.rounds.scores import Scores
from backend.rounds.sharing import Scoring
from tests.backend.round_places import Photos, quiet

TASKS = 10
PIECE = 2
VERSION = "maskal-r1"


class Watched(Photos):
    """Photos; who loaded which task's, and which ones cannot be read from here."""

    def __init__(self, *broken: int) -> None:
        self.broken, self.loaded = broken, list[int]()

    def load(self, value: object, task_id: int) -> np.ndarray:
        self.loaded.append(task_id)
        if task_id in self.broken:
            raise BadImage(f"task {task_id} is broken")
        return super().load(value, task_id)


class Team:
    """Others that have some pieces, by their numbers, and do something whenever they are called."""

    def __init__(self, *theirs: int, when_called: Callable[[], object] = lambda: None, are_there: bool = True) -> None:
        self.theirs, self.when_called, self.are_there = set(theirs), when_called, are_there
        self.calls, self.open = 0, 0

    def has_others(self) -> bool:
        return self.are_there

    def call(self) -> None:
        self.calls += 1
        self.when_called()

    @contextmanager
    def taken(self, piece: str) -> Iterator[bool]:
        self.open += 1
        try:
            yield int(piece.rpartition(":")[2]) not in self.theirs
        finally:
            self.open -= 1


class Duty(Team):
    """A helper's, which is over after so many questions."""

    def __init__(self, *theirs: int, questions: int = 1000) -> None:
        super().__init__(*theirs)
        self.questions = questions

    def is_over(self) -> bool:
        self.questions -= 1
        return self.questions < 0


def elsewhere(place: Workplace, *broken: int) -> Workplace:
    """The workplace of another process."""
    return replace(place, images=Watched(*broken))


def scored(
    place: Workplace, current: Round, team: Team | None, report: Any = quiet, onlooker: Any = None
) -> dict[int, Scored]:
    """The scores of all tasks, with their regions."""
    means = Means(load_engine(place, VERSION), onlooker)
    tasks = list(place.client.tasks(1))
    with Scores(current.scores) as scores, Ledger(current, scores, is_looked_at=bool(onlooker)) as ledger:
        Scoring(place, current, means, ledger, report).run(tasks, team)
        found = scores.without_regions([task.id for task in tasks])
        return {task: replace(one, regions=scores.regions(task)) for task, one in found.items()}


def alone(place: Workplace, tmp_path: Path) -> dict[int, Scored]:
    """The same, where there is nobody else."""
    other = Round(tmp_path / "alone" / "1")
    other.save()
    return scored(elsewhere(place), other, None)


def ends_at(share: float) -> Callable[..., None]:
    """A report on which the round is ended, as `maskal cancel`, another's round or a lost lock do."""

    def report(step: str, done: float) -> None:
        if done >= share:
            raise Cancelled("the end")

    return report


def cut_in(place: Workplace, current: Round, size: int = PIECE) -> Pieces:
    """All tasks in pieces, as a round makes them."""
    conditions = Conditions.of(place, VERSION, is_looked_at=False)
    return Pieces(cut.cut_tasks(current.pieces, conditions, list(place.client.tasks(1)), size)[0])
