"""Workers that are killed: at each step, on both sides of `current` and of the PATCH of `model_version`."""

from __future__ import annotations

import pytest

from backend.queue.jobs import RUN_ROUND
from backend.queue.locks import PREFIX
from backend.workers.clock import RECONCILED
from tests.faults.label_studio import UID
from tests.faults.world import World

STEPS = [("read", 0.5), ("train", 0.6), ("evaluate", 0.0), ("rank", 0.5), ("push", 0.0), ("push", 1.0)]


def served_and_due(world: World) -> None:
    """A first version is served, and a second round is due."""
    world.assert_recovers()
    world.annotate(9, 10, 11, 12)


@pytest.mark.slow
@pytest.mark.parametrize(("step", "share"), STEPS)
def test_a_killed_step_is_done_by_another_worker(world: World, step: str, share: float) -> None:
    served_and_due(world)
    world.killed(step, share)
    assert world.followed == world.folder.registry.current() == "maskal-r1"
    world.assert_queue_is_complete()
    world.annotate(13)
    world.assert_recovers()


@pytest.mark.parametrize(
    ("step", "served"),
    [pytest.param("make current", "maskal-r1", marks=pytest.mark.slow), ("publish", "maskal-r2")],
    ids=["before", "after"],
)
def test_killed_around_current_the_old_queue_stays_whole(world: World, step: str, served: str) -> None:
    served_and_due(world)
    world.killed(step)
    assert (world.folder.registry.current(), world.followed) == (served, "maskal-r1")
    world.assert_whole()
    world.assert_recovers()
    assert world.followed == "maskal-r2"


@pytest.mark.slow
@pytest.mark.parametrize(("is_done", "followed"), [(False, "maskal-r1"), (True, "maskal-r2")], ids=["before", "after"])
def test_killed_around_the_patch_of_the_model_version(world: World, is_done: bool, followed: str) -> None:
    served_and_due(world)
    world.killed_at_call(lambda method, path, now_done: method == "PATCH" and now_done == is_done)
    assert (world.folder.registry.current(), world.followed) == ("maskal-r2", followed)
    world.assert_whole()
    world.assert_recovers()


@pytest.mark.slow
def test_killed_while_predictions_are_on_their_way_none_is_sent_twice(world: World) -> None:
    world.killed_at_call(lambda method, path, is_done: path.endswith("/import/predictions") and is_done)
    assert len(world.server.project.stored[14]) == 1, "they had arrived"
    world.assert_recovers()


@pytest.mark.slow
def test_a_round_that_is_killed_again_and_again_waits_longer_and_says_so(world: World) -> None:
    for _ in range(3):
        world.killed("train")
    world.redis.delete(PREFIX + RUN_ROUND.lock_for(UID), RECONCILED)
    assert "round 1 was killed 3 times" in world.trouble() and "memory" in world.trouble()
    world.turn()
    assert world.rounds()[0].state.state == "read", "it waits"
    world.assert_recovers()
