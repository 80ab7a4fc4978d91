"""The helper's side: what it takes, by which settings it scores, and when it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backend.errors import ImageUnavailable
from backend.project.config import ProjectConfig
from backend.project.workplace import Workplace
from backend.rounds import cut, helping
from backend.rounds.cut import remove_cuts
from backend.rounds.folder import Round
from backend.rounds.helping import help_rank
from backend.rounds.pieces import Pieces
from backend.rounds.scored import Scored
from tests.backend.shared_ranking import TASKS, Duty, Team, Watched, alone, cut_in, elsewhere, scored


def test_a_helper_that_is_too_late_with_a_piece_ends(
    place: Workplace, current: Round, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, write = elsewhere(place), Pieces.write
    cut_in(place, current)

    def write_late(pieces: Pieces, piece: int, found: Sequence[tuple[int, Scored]]) -> None:
        remove_cuts(current.pieces)
        write(pieces, piece, found)

    monkeypatch.setattr(Pieces, "write", write_late)
    help_rank(there, current, Duty())
    assert set(there.images.loaded) == {9, 10} and not current.pieces.exists()


def test_a_helper_gives_up_a_piece_that_the_round_has_done(place: Workplace, current: Round) -> None:
    there, pieces = elsewhere(place), cut_in(place, current, 4)

    class DoneMeanwhile(Watched):
        def load(self, value: object, task_id: int) -> np.ndarray:
            pieces.note_done(1)
            return super().load(value, task_id)

    help_rank(replace(there, images=DoneMeanwhile()), current, Duty(0, 2))
    assert pieces.written() == []


@pytest.mark.parametrize(("questions", "loaded"), [(0, set()), (2, {9, 10})], ids=["before a piece", "in it"])
def test_a_helper_goes_as_soon_as_it_has_to(place: Workplace, current: Round, questions: int, loaded: set[int]) -> None:
    there, pieces = elsewhere(place), cut_in(place, current)
    help_rank(there, current, Duty(questions=questions))
    assert set(there.images.loaded) == loaded and pieces.written() == []


def test_a_helper_that_reaches_no_images_gives_its_piece_back(
    place: Workplace, current: Round, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helping, "MOST_UNREADABLE", 1)
    there = elsewhere(place, 9, 10)

    def help_in_vain() -> None:
        with pytest.raises(ImageUnavailable, match="2 images of one piece cannot be read here, the last: task 10"):
            help_rank(there, current, Duty(0, 1, 2, 3))

    assert len(scored(place, current, Team(when_called=help_in_vain))) == TASKS


def test_a_helper_scores_by_the_rounds_settings(place: Workplace, current: Round, tmp_path: Path) -> None:
    wanted = alone(place, tmp_path)
    there = replace(elsewhere(place), config=ProjectConfig(engine="fake", mcd_iterations=5), label_config="")
    team = Team(when_called=lambda: help_rank(there, current, Duty(0)))
    assert scored(place, current, team) == wanted and there.images.loaded


def test_a_helper_of_another_release_does_not_help(
    place: Workplace, current: Round, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    there = elsewhere(place)

    def help_as_another() -> None:
        with monkeypatch.context() as other:
            other.setattr(cut, "installed_version", lambda name: "9.0")
            help_rank(there, current, Duty())

    assert len(scored(place, current, Team(when_called=help_as_another))) == TASKS
    assert there.images.loaded == [] and "install the same everywhere" in caplog.text
