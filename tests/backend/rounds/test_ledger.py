from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from backend.rounds.folder import Round
from backend.rounds.ledger import Ledger
from backend.rounds.scored import Scored
from backend.rounds.scores import Scores
from backend.rounds.seen_objects import SeenImage, read_seen
from sampling.coverage import ObjectsOfImage

ROW = np.full((1, 2), 0.5, np.float16)
SEEN = SeenImage(ObjectsOfImage(ROW, ROW, ROW[0, :1]), ROW[0])


@pytest.fixture
def current(tmp_path: Path) -> Round:
    made = Round(tmp_path / "1")
    made.save()
    return made


@pytest.mark.parametrize(("is_looked_at", "known"), [(False, {1, 2}), (True, {1})], ids=["scored", "looked at"])
def test_a_task_is_known_once_it_has_all_that_is_asked_for(current: Round, is_looked_at: bool, known: set[int]) -> None:
    for _ in range(2):
        with Scores(current.scores) as scores, Ledger(current, scores, is_looked_at=is_looked_at) as ledger:
            if not scores.without_regions([1]):
                ledger.add(1, Scored(0.5, [], seen=SEEN))
                ledger.add(2, Scored(0.25, []))
            assert {task for task in range(4) if task in ledger} == known, "then and when it is opened again"


def test_what_is_added_is_on_the_disk_at_once(current: Round) -> None:
    with Scores(current.scores) as scores, Ledger(current, scores, is_looked_at=True) as ledger:
        ledger.add(7, Scored(0.5, [], seen=SEEN))
        with Scores(current.scores) as others:
            assert 7 in others
        assert (read_seen(current.seen_objects)[7].whole == SEEN.whole).all()


def test_what_was_seen_without_a_score_is_not_known(current: Round) -> None:
    with Scores(current.scores) as scores, Ledger(current, scores, is_looked_at=True) as ledger:
        ledger.add(7, Scored(0.5, [], seen=SEEN))
    current.scores.unlink()
    with Scores(current.scores) as scores, Ledger(current, scores, is_looked_at=True) as ledger:
        assert 7 not in ledger
