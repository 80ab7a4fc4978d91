from __future__ import annotations

import logging
from pathlib import Path

import pytest

from backend.rounds.scored import Scored
from backend.rounds.scores import Scores

REGIONS = [{"id": "m0", "value": {"points": [[1.5, 2.0]]}}]


def test_scores_are_there_again_after_a_kill_and_their_regions_come_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    killed = Scores(path)
    killed.add(7, Scored(0.5, REGIONS, (1.5, 0.0), (0.25, 2.0, 3.0)))
    killed.add(3, Scored(None, []))
    with killed, Scores(path) as again:
        assert 7 in again and 3 in again and 1 not in again
        again.add(1, Scored(0.25, [{"id": "m1"}]))
        found = again.without_regions([1, 3, 5, 7])
        assert list(found) == [1, 3, 7] and [s.certainty for s in found.values()] == [0.25, None, 0.5]
        assert (list(found[7].class_counts), list(found[7].embedding)) == ([1.5, 0.0], [0.25, 2.0, 3.0])
        assert all(s.regions == [] for s in found.values())
        assert [again.regions(task) for task in (7, 3, 1)] == [REGIONS, [], [{"id": "m1"}]]


def test_a_line_that_was_cut_off_does_not_spoil_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    with Scores(path) as scores:
        scores.add(1, Scored(0.5, REGIONS))
        scores.add(2, Scored(0.5, REGIONS))
    path.write_bytes(path.read_bytes()[:-9])
    with Scores(path) as scores:
        assert 1 in scores and 2 not in scores
        scores.add(2, Scored(0.75, []))
    with Scores(path) as scores:
        assert scores.without_regions([2])[2].certainty == 0.75 and scores.regions(1) == REGIONS


def test_a_broken_line_is_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "scores.jsonl"
    with Scores(path) as scores:
        scores.add(1, Scored(0.5, REGIONS))
    wrong = '{"task": 3, "certainty": 0.5, "regions": [], "class_counts": "few"}'
    path.write_text(f'{{"task": 2}}\n[]\n{wrong}\n' + path.read_text())
    with caplog.at_level(logging.WARNING), Scores(path) as scores:
        assert list(scores.without_regions([1, 2, 3])) == [1] and scores.regions(1) == REGIONS
    assert caplog.text.count("scored again") == 3
