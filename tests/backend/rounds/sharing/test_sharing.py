"""The round's side of a ranking in pieces: what is cut, who scores what, and that nothing of it is lost."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from backend.errors import BadImage, Cancelled
from backend.project.unreadable import Unreadable
from backend.project.workplace import Workplace
from backend.rounds import sharing
from backend.rounds.cut import find_cuts, remove_cuts
from backend.rounds.folder import Round
from backend.rounds.helping import help_rank
from backend.rounds.pieces import Pieces
from backend.rounds.scored import Scored
from tests.backend.shared_ranking import TASKS, Duty, Team, alone, elsewhere, ends_at, scored


def test_a_helper_does_some_of_it_and_the_scores_are_the_same(
    place: Workplace, current: Round, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    there, told = elsewhere(place), list[float]()
    team = Team(when_called=lambda: help_rank(there, current, Duty(0, 1)))
    with caplog.at_level(logging.INFO):
        found = scored(place, current, team, lambda step, share: told.append(share))
    assert found == alone(place, tmp_path) and set(found) == set(range(1, TASKS + 1))
    assert (sorted(place.images.loaded), sorted(there.images.loaded)) == ([1, 2, 3, 4], [5, 6, 7, 8, 9, 10])
    assert told == sorted(told) and told[-1] == 1.0 and told[:3] == [0.2, 0.4, 0.6], "what others did counts"
    assert "6 scores came from other workers" in caplog.text
    assert not current.pieces.exists() and not list(current.path.glob(".tmp-*")), "nothing is left of it"


def test_a_helper_leaves_what_the_round_has_scored(place: Workplace, current: Round) -> None:
    there = elsewhere(place)

    def help_once_the_first_is_done() -> None:
        if place.images.loaded:
            help_rank(there, current, Duty())

    assert len(scored(place, current, Team(when_called=help_once_the_first_is_done))) == TASKS
    assert set(there.images.loaded) == {3, 4, 5, 6, 7, 8, 9, 10}


def test_helpers_take_the_last_pieces_first_and_none_twice(place: Workplace, current: Round) -> None:
    first, second = elsewhere(place), elsewhere(place)

    def help_both() -> None:
        help_rank(first, current, Duty(questions=6))
        help_rank(second, current, Duty(questions=6))

    team = Team(0, 1, 2, 3, 4, when_called=help_both)
    with pytest.raises(Cancelled):
        scored(place, current, team, ends_at(0.1))
    assert set(first.images.loaded[:4]) == {7, 8, 9, 10} and set(second.images.loaded[:4]) == {3, 4, 5, 6}


@pytest.mark.parametrize("team", [None, Team(are_there=False)], ids=["nobody", "no living worker"])
def test_where_nobody_else_is_nothing_is_cut(
    place: Workplace, current: Round, team: Team | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "cut_tasks", None)
    assert len(scored(place, current, team)) == TASKS and not current.pieces.exists()
    assert team is None or team.calls == 0


@pytest.mark.parametrize(("piece", "calls"), [(TASKS // 2, 2), (TASKS // 2 + 1, 0)], ids=["two pieces", "less"])
def test_a_few_tasks_are_not_cut(
    place: Workplace, current: Round, piece: int, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "PIECE", piece)
    team = Team()
    assert len(scored(place, current, team)) == TASKS and team.calls == calls


def test_a_round_that_goes_on_shares_only_what_is_missing(place: Workplace, current: Round) -> None:
    with pytest.raises(Cancelled):
        scored(place, current, None, ends_at(0.2))
    there, told = elsewhere(place), list[float]()
    team = Team(when_called=lambda: help_rank(there, current, Duty()))
    assert len(scored(place, current, team, lambda step, share: told.append(share))) == TASKS
    assert set(there.images.loaded) == {3, 4, 5, 6, 7, 8, 9, 10} and told == [0.4, 0.6, 0.8, 1.0]


def test_a_piece_is_taken_as_long_as_it_is_scored(place: Workplace, current: Round) -> None:
    team, taken = Team(1), list[int]()
    scored(place, current, team, lambda step, share: taken.append(team.open))
    assert taken == [1] * 8 + [0] * 2, "the last one is another's"


def test_what_others_have_under_way_is_scored_at_last(place: Workplace, current: Round) -> None:
    assert len(scored(place, current, Team(0, 3))) == TASKS
    assert sorted(place.images.loaded) == list(range(1, TASKS + 1))
    assert place.images.loaded[-4:] == [1, 2, 7, 8], "last"


def test_where_the_other_one_is_done_first_the_rest_is_taken_from_him(
    place: Workplace, current: Round, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sharing, "PIECE", 4)
    caplog.set_level(logging.INFO)
    there = elsewhere(place)

    def report(step: str, share: float) -> None:
        if share == 0.7:  # the first of four tasks that the others have under way
            help_rank(there, current, Duty(1, 2))

    found = scored(place, current, Team(0), report)
    assert set(found) == set(range(1, TASKS + 1))
    assert set(there.images.loaded) == {1, 2, 3, 4} and "3 scores came from other workers" in caplog.text


@pytest.mark.parametrize("share", [0.1, 0.7])
def test_a_round_that_ends_meanwhile_leaves_its_pieces_to_the_next_turn(
    place: Workplace, current: Round, share: float, tmp_path: Path
) -> None:
    there, team = elsewhere(place), Team(3, when_called=lambda: None)
    with pytest.raises(Cancelled):
        scored(place, current, team, ends_at(share))
    assert team.open == 0, "the piece is given back"
    help_rank(there, current, Duty(0, 1, 2, 3))  # it was about to end with the last one
    place.images.loaded.clear()
    assert scored(place, current, None) == alone(place, tmp_path)
    assert not {9, 10} & set(place.images.loaded), "they were there"
    assert not current.pieces.exists()


def test_a_late_piece_does_no_harm(place: Workplace, current: Round, tmp_path: Path) -> None:
    def write_late() -> None:
        if place.images.loaded:  # the first piece is done
            Pieces(find_cuts(current.pieces)[0]).write(0, [(1, Scored(0.123, []))])

    assert scored(place, current, Team(when_called=write_late)) == alone(place, tmp_path)


def test_what_a_helper_cannot_read_is_left_to_the_round(place: Workplace, current: Round) -> None:
    there = elsewhere(place, 9)
    Unreadable(place.folder.path).note(10, BadImage("once"))
    found = scored(place, current, Team(when_called=lambda: help_rank(there, current, Duty(0, 1, 2, 3))))
    assert 9 in found and set(place.images.loaded) == {1, 2, 3, 4, 5, 6, 7, 8, 9}
    assert Unreadable(place.folder.path).failures() == {}, "and what it can read is readable"


def test_what_nobody_can_read_is_noted_once(place: Workplace, current: Round) -> None:
    place, there, told = elsewhere(place, 9), elsewhere(place, 9), list[float]()
    team = Team(when_called=lambda: help_rank(there, current, Duty(0, 1, 2, 3)))
    found = scored(place, current, team, lambda step, share: told.append(share))
    assert set(found) == set(range(1, TASKS + 1)) - {9}
    assert {task: one.tries for task, one in Unreadable(place.folder.path).failures().items()} == {9: 1}
    assert told[-1] == 1.0


def test_a_round_goes_on_where_its_pieces_are_gone(place: Workplace, current: Round) -> None:
    """First as another worker removes them that has taken the round over, then as one does that had it before."""

    def remove_once() -> None:
        if len(place.images.loaded) in (2, 3):
            remove_cuts(current.pieces)

    with pytest.raises(Cancelled):
        scored(place, current, Team(when_called=remove_once), ends_at(0.5))
    place.images.loaded.clear()
    assert len(scored(place, current, Team(when_called=remove_once))) == TASKS
    assert not current.pieces.exists()
