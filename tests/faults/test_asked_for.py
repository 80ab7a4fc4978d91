"""Somebody presses *Start Training*, or cancels, while a round runs or waits for what mends elsewhere."""

from __future__ import annotations

import errno

from backend.care.cancel import cancel
from backend.queue.jobs import hint
from tests.faults.label_studio import UID
from tests.faults.world import World

SOON_S = 20.0
"""Long enough for a change to be looked at, and much shorter than a round waits."""


def waits_at(world: World, step: str) -> None:
    world.at(step, lambda: setattr(world.server, "is_down", True))
    world.looks(1)
    assert world.rounds()[0].is_waiting


def soon(world: World) -> None:
    """The workers look, long before a round that waits would be tried again."""
    assert world.rounds()[-1].is_waiting or not world.rounds()[-1].is_unfinished
    world.clock.moved_s += SOON_S
    world.turn()


def test_a_round_that_waits_is_tried_at_once_and_no_second_one_follows(world: World) -> None:
    waits_at(world, "train")
    world.server.is_down = False
    hint(world.redis, UID, is_forced=True)
    soon(world)
    assert [one.state.state for one in world.rounds()] == ["published"]
    world.looks(2)
    assert len(world.rounds()) == 1, "no annotation is new"


def fill_the_disk() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_round_that_waits_ends_at_once_although_label_studio_is_away(world: World) -> None:
    world.at("train", fill_the_disk)
    world.looks(1)
    assert world.rounds()[0].is_waiting
    world.server.is_down = True
    assert cancel(world.redis, world.folder) == "round 1 is cancelled; the next one waits for new annotations"
    assert [one.state.state for one in world.rounds()] == ["cancelled"]
    world.server.is_down = False
    world.looks(2)
    assert len(world.rounds()) == 1
    world.annotate(9, 10, 11, 12)
    world.assert_recovers()


def test_a_round_that_has_not_read_what_is_annotated_ends_as_soon_as_it_can(world: World) -> None:
    waits_at(world, "read")
    assert cancel(world.redis, world.folder).startswith("round 1 is being cancelled")
    world.server.is_down = False
    soon(world)
    assert [one.state.state for one in world.rounds()] == ["cancelled"]
    world.looks(2)
    assert len(world.rounds()) == 1


def test_who_cancels_takes_back_that_a_round_was_asked_for(world: World) -> None:
    def ask_and_cancel() -> None:
        hint(world.redis, UID, is_forced=True)
        cancel(world.redis, world.folder)

    world.at("train", ask_and_cancel)
    world.looks(3)
    assert [one.state.state for one in world.rounds()] == ["cancelled"]
