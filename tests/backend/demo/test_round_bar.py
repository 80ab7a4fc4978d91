from __future__ import annotations

import pytest

from backend.demo.round_bar import SPANS, RoundBar, in_words, seconds_left
from backend.rounds.steps import STEPS


def test_every_step_of_a_round_has_its_part_of_the_bar() -> None:
    assert {name for name, _ in STEPS} <= SPANS.keys()


def test_the_training_s_first_steps_tell_how_long_all_takes() -> None:
    assert seconds_left("train", 1, 60.0) is None, "too early to say"
    left_s = seconds_left("train", 50, 39.0)
    assert left_s == pytest.approx(39 + 78 * 20 / 78), "half of the training, and what comes after it"
    assert seconds_left("train", 100, 0.0) is None, "what comes after it is not known"
    assert seconds_left("read", 50, 10.0) is None and seconds_left("train", 50, None) is None


def test_the_bar_shows_percent_and_time_left_and_never_goes_back(capfd: pytest.CaptureFixture[str]) -> None:
    with RoundBar() as bar:
        bar.show(None, 1)
        bar.show({"step": "train", "percent": 40, "seconds_left": 60}, 30)
        bar.show({"step": "train", "percent": 80, "seconds_left": 20}, 70)
        bar.show({"step": "rank", "percent": 0}, 90)
    told = capfd.readouterr()
    assert "The first version takes about 2 min on this machine." in told.out + told.err
    assert "first version: train  33 %" in told.err and "about 85 s left" in told.err
    assert "first version: rank  82 %" in told.err


def test_seconds_are_said_as_people_do() -> None:
    assert [in_words(s) for s in (1, 42, 89, 100, 170)] == ["5 s", "40 s", "90 s", "2 min", "3 min"]
