"""Under which conditions pieces are scored, and when they are gone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest

from backend.project.config import ProjectConfig
from backend.project.workplace import Workplace
from backend.rounds import cut
from backend.rounds.cut import Conditions, find_cuts, read_cut, remove_cuts
from backend.rounds.folder import Round
from backend.rounds.helping import help_rank
from backend.rounds.pieces import Pieces
from backend.rounds.scored import Scored
from tests.backend.shared_ranking import TASKS, VERSION, Duty, cut_in, scored


def another_version(found: Conditions) -> Conditions:
    return replace(found, version="maskal-r2")


def another_release(found: Conditions) -> Conditions:
    return replace(found, release="0.0.1")


def other_settings(found: Conditions) -> Conditions:
    return replace(found, config={**found.config, "mcd_iterations": 5})


@pytest.mark.parametrize("changed", [another_version, another_release, other_settings])
def test_pieces_that_were_scored_under_other_conditions_are_not_taken(
    place: Workplace, current: Round, changed: Callable[[Conditions], Conditions]
) -> None:
    conditions = Conditions.of(place, VERSION, is_looked_at=False)
    for made, piece in ((changed(conditions), [1]), (conditions, [2])):
        tasks = [task for task in place.client.tasks(1) if task.id in piece]
        folder, _ = cut.cut_tasks(current.pieces, made, tasks, 1)
        Pieces(folder).write(0, [(piece[0], Scored(0.123, []))])
    found = scored(place, current, None)
    assert found[1].certainty != 0.123 and found[2].certainty == 0.123


def test_pieces_of_two_cuts_are_not_taken_for_the_same(place: Workplace, current: Round) -> None:
    assert cut_in(place, current).key(1) != cut_in(place, current).key(1)


def test_cuts_are_gone_at_once_although_removing_them_takes_a_while(
    place: Workplace, current: Round, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = cut_in(place, current)
    monkeypatch.setattr(shutil, "rmtree", lambda path, **options: None)  # killed before it had begun
    remove_cuts(current.pieces)
    assert find_cuts(current.pieces) == [] and read_cut(pieces.folder) is None and not pieces.are_wanted
    with pytest.raises(FileNotFoundError):
        pieces.write(0, [(1, Scored(0.5, []))])


def test_the_conditions_come_back_as_they_are(place: Workplace, current: Round) -> None:
    conditions = Conditions.of(place, VERSION, is_looked_at=True)
    tasks = list(place.client.tasks(1))
    folder, _ = cut.cut_tasks(current.pieces, conditions, tasks, 4)
    back = read_cut(folder)
    assert back is not None and back.conditions == conditions
    assert [[(t.id, t.data) for t in piece] for piece in back.pieces] == [
        [(t.id, t.data) for t in tasks[at : at + 4]] for at in (0, 4, 8)
    ]
    assert conditions.at(replace(place, config=ProjectConfig(), label_config="")) == place


def test_a_damaged_cut_is_left_aside(place: Workplace, current: Round, caplog: pytest.LogCaptureFixture) -> None:
    folder, _ = cut.cut_tasks(current.pieces, Conditions.of(place, VERSION, is_looked_at=False), [], 4)
    (folder / cut.NAME).write_text("{}")
    help_rank(place, current, Duty())
    assert len(scored(place, current, None)) == TASKS
    assert caplog.text.count("are left aside") == 2
