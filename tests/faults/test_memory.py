"""Memory that does not suffice for a training on the CPU."""

from __future__ import annotations

import pytest

from tests.faults.world import World


@pytest.mark.slow
def test_a_training_without_memory_waits_and_says_so(world: World) -> None:
    world.server.photo_scale = 60
    child = world.child("train", is_starved=True)
    child.start()
    child.join(180)
    assert child.exitcode == 0
    world.ticks()
    assert "memory ran out" in world.trouble() and "train_batch_size" in world.trouble()
    (begun,) = world.rounds()
    assert (begun.state.state, begun.state.attempts) == ("read", 0)
    assert not (begun.path / "plan.json").exists(), "other settings count when it goes on"
    world.assert_recovers()
