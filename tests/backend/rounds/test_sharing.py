"""Rankings in pieces, with helpers that work in the same process whenever they are called."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backend.errors import BadImage, Cancelled, ImageUnavailable
from backend.project.config import ProjectConfig
from backend.project.folder import connect_folder
from backend.project.unreadable import Unreadable
from backend.project.workplace import Workplace
from backend.rounds import cut, helping, sharing
from backend.rounds.choosing import Means
from backend.rounds.cut import Conditions, find_cuts, read_cut, remove_cuts
from backend.rounds.engines import load_engine
from backend.rounds.folder import Round
from backend.rounds.helping import help_rank
from backend.rounds.ledger import Ledger
from backend.rounds.pieces import Pieces
from backend.rounds.scored import Scored
from backend.rounds.scores import Scores, encoded_score
from backend.rounds.seen_objects import SeenImage, read_seen
from backend.rounds.sharing import Scoring
from model.registry import VersionFields
from model.stored_weights import add_version
from sampling.coverage import ObjectsOfImage
from tests.backend.fake_label_studio import FakeLabelStudio, place_of
from tests.backend.round_places import Photos, quiet

TASKS = 10
PIECE = 2
VERSION = "maskal-r1"
COLOURS = torch.tensor([[40, 160, 60], [120, 60, 30]]) / 255


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


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "PIECE", PIECE)


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    """A project of ten open tasks, with a version that is to rank them."""
    folder = connect_folder(tmp_path, "1.1")
    folder.store_config(ProjectConfig(engine="fake", mcd_iterations=3))
    fields = VersionFields(1, ("leaf", "spot"), "fake", {"network": "fake"}, {}, None, "x", True, "")
    add_version(folder.registry, fields, {"colours": COLOURS})
    return place_of(folder, FakeLabelStudio(folder.uid, TASKS, 0), Watched())


@pytest.fixture
def current(place: Workplace) -> Round:
    made = Round(place.folder.rounds / "1")
    made.save()
    return made


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


def ends_at(share: float) -> Callable[..., None]:
    """A report on which the round is ended, as `maskal cancel`, another's round or a lost lock do."""

    def report(step: str, done: float) -> None:
        if done >= share:
            raise Cancelled("the end")

    return report


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


def test_a_late_piece_does_no_harm(place: Workplace, current: Round, tmp_path: Path) -> None:
    def write_late() -> None:
        if place.images.loaded:  # the first piece is done
            Pieces(find_cuts(current.pieces)[0]).write(0, [(1, Scored(0.123, []))])

    assert scored(place, current, Team(when_called=write_late)) == alone(place, tmp_path)


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


def cut_in(place: Workplace, current: Round, size: int = PIECE) -> Pieces:
    """All tasks in pieces, as a round makes them."""
    conditions = Conditions.of(place, VERSION, is_looked_at=False)
    return Pieces(cut.cut_tasks(current.pieces, conditions, list(place.client.tasks(1)), size)[0])


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


class Onlooker:
    """Sees how bright an image is."""

    def look(self, engine: object, encoded: object, image: np.ndarray, generator: torch.Generator) -> SeenImage:
        return seen(brightness(image))


def brightness(image: np.ndarray) -> float:
    return float(np.float16(image.mean() / 255))


def test_what_a_helper_sees_is_kept_as_well(place: Workplace, current: Round, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helping, "open_onlooker", lambda place: Onlooker())
    there = elsewhere(place)
    team = Team(when_called=lambda: help_rank(there, current, Duty(0, 1)))
    assert len(scored(place, current, team, onlooker=Onlooker())) == TASKS
    assert (set(place.images.loaded), set(there.images.loaded)) == ({1, 2, 3, 4}, {5, 6, 7, 8, 9, 10})
    found = {task: float(one.whole[0]) for task, one in read_seen(current.seen_objects).items()}
    assert found == {task: brightness(place.images.load(None, task)) for task in range(1, TASKS + 1)}


def test_what_is_lost_of_what_a_helper_saw_is_looked_at_again(
    place: Workplace, current: Round, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helping, "open_onlooker", lambda place: Onlooker())
    there = elsewhere(place)

    def help_and_lose() -> None:
        help_rank(there, current, Duty(0, 1, 2))
        for path in current.pieces.glob("*/4.seen"):
            path.write_bytes(path.read_bytes()[:-1])

    assert len(scored(place, current, Team(when_called=help_and_lose), onlooker=Onlooker())) == TASKS
    assert set(read_seen(current.seen_objects)) == set(range(1, TASKS + 1))
    assert {9, 10} & set(place.images.loaded) == {10}


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


def seen(value: float) -> SeenImage:
    features = np.full((2, 3), value, np.float16)
    probabilities: Sequence[Any] = np.full((2, 2), 0.5, np.float16)
    return SeenImage(ObjectsOfImage(features, probabilities, np.array([0.25, value], np.float16)), features[0])


def test_what_is_seen_goes_with_a_piece(tmp_path: Path) -> None:
    pieces = Pieces(tmp_path)
    pieces.write(3, [(7, Scored(0.5, [{"id": "a"}], (1.0, 0.25), (0.1,), seen(0.75))), (8, Scored(None, []))])
    assert pieces.written() == [3] and pieces.has_scores(3) and not pieces.is_free(3)
    (first, one), (second, other) = pieces.read(3)
    assert (first, second, other.certainty, other.seen) == (7, 8, None, None)
    assert (one.certainty, one.regions, one.class_counts, one.embedding) == (0.5, [{"id": "a"}], [1.0, 0.25], [0.1])
    assert one.seen is not None and (one.seen.objects.features == 0.75).all() and (one.seen.whole == 0.75).all()
    pieces.note_done(3)
    assert pieces.written() == [] and not pieces.is_free(3) and pieces.is_free(2)
    assert [path.name for path in tmp_path.iterdir()] == ["3.done"]


def test_a_torn_line_of_a_piece_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pieces = Pieces(tmp_path)
    pieces.write(0, [(7, Scored(0.5, [])), (8, Scored(0.25, []))])
    path = tmp_path / "0.scores"
    path.write_bytes(path.read_bytes()[:-9] + b"\n" + encoded_score(9, Scored(0.75, [])))
    assert [task for task, _ in pieces.read(0)] == [7, 9] and "whose task is scored again" in caplog.text
