"""A clock that steps back an hour or forward a day in one process; Redis and Label Studio have clocks of their own."""

from __future__ import annotations

import pytest

from tests.faults.test_kills import served_and_due
from tests.faults.test_label_studio import STEPS
from tests.faults.world import World

HOUR_S, DAY_S = 3600.0, 24 * 3600.0


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("moved_s", [-HOUR_S, DAY_S], ids=["back", "forward"])
def test_the_clock_steps_in_a_step(world: World, moved_s: float, step: str) -> None:
    served_and_due(world)

    def move() -> None:
        world.clock.moved_s += moved_s

    world.at(step, move)
    world.looks(1)
    world.annotate(13)
    world.assert_recovers()


@pytest.mark.parametrize("moved_s", [-HOUR_S, pytest.param(DAY_S, marks=pytest.mark.slow)], ids=["back", "forward"])
def test_what_waits_is_tried_soon_after_the_clock_has_stepped(world: World, moved_s: float) -> None:
    world.at("train", lambda: setattr(world.server, "is_down", True))
    world.at("rank", lambda: setattr(world.server, "is_revoked", True))
    world.looks(1)
    assert world.rounds()[0].is_waiting
    world.clock.moved_s += moved_s
    world.server.is_down = world.server.is_revoked = False
    world.looks(1)
    assert world.rounds()[0].state.state == "published"
