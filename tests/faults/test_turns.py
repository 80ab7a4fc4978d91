"""Rounds that make way for another project's, and go on after that."""

from __future__ import annotations

import pytest
from rq.job import Job

from backend.queue.jobs import RUN_ROUND, enqueue
from backend.workers import jobs
from tests.faults.world import World

OTHER = "2.1700000001"


def let_another_wait(world: World, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a step a round of another project becomes due, and the first one has had its share."""
    keep = jobs.keep_progress
    monkeypatch.setattr(jobs, "SHARE_S", 0.0)
    monkeypatch.setattr(jobs, "keep_progress", lambda *told: keep(*told) or True)  # as if a second passed each time
    world.at(step, lambda: enqueue(world.redis, RUN_ROUND, OTHER), share=0.3)


@pytest.mark.parametrize("step", [pytest.param("train", marks=pytest.mark.slow), "rank"])
def test_a_long_step_makes_way_and_goes_on_where_it_was(
    world: World, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_another_wait(world, step, monkeypatch)
    world.later()
    world.turn()
    [first] = world.rounds()
    assert first.state.state == {"train": "read", "rank": "evaluated"}[step], "it stands where it made way"
    assert (first.state.attempts, first.state.error, first.state.begun) == (0, None, 0)
    assert Job.fetch(RUN_ROUND.id_for(OTHER), connection=world.redis).is_finished, "the other one had its turn"
    kept = first.scores.read_bytes() if step == "rank" else b""
    assert step == "train" or 0 < kept.count(b"\n") < 6
    ended: list[bytes] = []
    world.at("push", lambda: ended.append(first.scores.read_bytes()))
    world.assert_recovers()
    assert ended[0].startswith(kept), "nothing is scored twice"
    assert ended[0].count(b"\n") == 6


@pytest.mark.slow
def test_a_worker_that_is_killed_after_it_made_way_loses_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    let_another_wait(world, "rank", monkeypatch)
    world.later()
    world.turn()
    world.killed("rank", 0.9)
    world.assert_recovers()


def test_a_second_round_of_a_project_lets_another_projects_go_before_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.at("publish", lambda: (world.annotate(9, 10, 11, 12), enqueue(world.redis, RUN_ROUND, OTHER)))
    world.later()
    world.turn()
    assert [r.state.state for r in world.rounds()] == ["published"]
    assert Job.fetch(RUN_ROUND.id_for(OTHER), connection=world.redis).is_finished
    world.assert_recovers()
    assert len(world.rounds()) == 2
