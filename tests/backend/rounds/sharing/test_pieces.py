"""What a piece holds: scores, and what a helper saw of the objects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backend.project.workplace import Workplace
from backend.rounds import helping
from backend.rounds.folder import Round
from backend.rounds.helping import help_rank
from backend.rounds.pieces import Pieces
from backend.rounds.scored import Scored
from backend.rounds.scores import encoded_score
from backend.rounds.seen_objects import SeenImage, read_seen
from sampling.coverage import ObjectsOfImage
from tests.backend.shared_ranking import TASKS, Duty, Team, elsewhere, scored


class Onlooker:
    """Sees how bright an image is."""

    def look(self, engine: object, encoded: object, image: np.ndarray, generator: torch.Generator) -> SeenImage:
        return seen(brightness(image))


def brightness(image: np.ndarray) -> float:
    return float(np.float16(image.mean() / 255))


def seen(value: float) -> SeenImage:
    features = np.full((2, 3), value, np.float16)
    probabilities: Sequence[Any] = np.full((2, 2), 0.5, np.float16)
    return SeenImage(ObjectsOfImage(features, probabilities, np.array([0.25, value], np.float16)), features[0])


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
