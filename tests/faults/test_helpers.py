"""Rankings that two real workers share: the test's process runs the round, another one helps, and is disturbed."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from multiprocessing.process import BaseProcess

import psutil
import pytest
from rq.job import Job

from backend.project.workplace import open_workplace
from backend.queue.jobs import RUN_ROUND, enqueue
from backend.rounds import sharing
from backend.rounds.steps import STEPS
from backend.workers import jobs
from backend.workers.team import ASK_EVERY_S
from tests.backend.round_places import quiet
from tests.e2e.waiting import wait_for
from tests.faults.label_studio import UID
from tests.faults.workers import kill
from tests.faults.world import World

OTHER = "2.1700000001"
OPEN = 6
"""Tasks of the world that are not annotated, 9 to 14; each is a piece."""

FROM_OTHERS = "scores came from other workers"


@pytest.fixture(autouse=True)
def others(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[BaseProcess]]:
    """The second worker, which is there once the ranking begins; each task is a piece then."""
    monkeypatch.setattr(sharing, "PIECE", 1)
    world.later()
    found: list[BaseProcess] = []
    with ExitStack() as stack:
        world.at("rank", lambda: found.append(stack.enter_context(world.beside())))
        yield found


class Held:
    """The photo of the last task: who asks for it gets it once it is released."""

    def __init__(self, world: World) -> None:
        self.is_asked, self.is_released = threading.Event(), threading.Event()
        world.server.watcher = self.watch

    def watch(self, method: str, path: str, is_done: bool) -> bool:
        if path.endswith("/14.png") and not self.is_released.is_set():
            self.is_asked.set()
            self.is_released.wait(120)
        return False


def while_a_helper_is_at_it(world: World, action: Callable[[], object]) -> Held:
    """Do something once the helper is in the middle of a piece, where it stays until its photo is released."""
    photo = Held(world)

    def act() -> None:
        assert photo.is_asked.wait(120), "no helper came"
        action()
        photo.is_released.set()

    world.at("rank", act, share=0.01)
    return photo


def assert_ranked(world: World) -> None:
    [first] = world.rounds()
    assert first.state.state == "published" and first.state.error is None
    assert len(world.folder.registry.read_ranking(first.version)) == OPEN
    assert not first.pieces.exists()
    world.assert_whole()


def test_a_helper_does_some_of_it_and_the_queue_is_as_by_one_worker(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def wait_for_others() -> None:
        wait_for(lambda: list(world.rounds()[0].pieces.glob("*/*.scores")), "a helper's scores", 60)

    rankings: list[bytes] = []

    def rank_again() -> None:
        [first] = world.rounds()
        path = world.folder.registry.ranking_path(first.version)
        rankings.append(path.read_bytes())
        first.scores.unlink()
        dict(STEPS)["rank"](open_workplace(world.settings, world.folder), first, quiet, None)
        rankings.append(path.read_bytes())

    world.at("rank", wait_for_others, share=0.01)
    world.at("push", rank_again)
    with caplog.at_level(logging.INFO):
        world.turn()
    [told] = [record.getMessage() for record in caplog.records if FROM_OTHERS in record.getMessage()]
    assert not told.startswith(f"project {UID}: 0 ")
    assert rankings[0] == rankings[1] and rankings[0].count(b"\n") == OPEN
    assert_ranked(world)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_helper_that_is_stopped_in_a_piece_is_not_missed(
    world: World, others: list[BaseProcess], number: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    def stop() -> None:
        [job] = psutil.Process(others[0].pid).children()
        job.send_signal(number)

    while_a_helper_is_at_it(world, stop)
    with caplog.at_level(logging.INFO):
        world.turn()
    assert f"project {UID}: 0 {FROM_OTHERS}" in caplog.text
    assert_ranked(world)


def test_a_round_makes_way_while_a_helper_is_at_it_and_goes_on_without_it(
    world: World, others: list[BaseProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    def let_another_wait() -> None:
        assert photo.is_asked.wait(120), "no helper came"
        enqueue(world.redis, RUN_ROUND, OTHER)

    monkeypatch.setattr(jobs, "SHARE_S", 0.0)
    photo = Held(world)  # as long as the helper waits for it, it takes no other project's round
    world.at("rank", let_another_wait, share=0.01)
    world.turn()
    [first] = world.rounds()
    assert first.state.state == "evaluated" and first.pieces.exists()
    kill(others[0])
    photo.is_released.set()
    world.looks()
    assert_ranked(world)


def test_a_helper_makes_way_for_another_projects_round(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def let_another_wait() -> None:
        enqueued_at = time.monotonic()
        enqueue(world.redis, RUN_ROUND, OTHER)
        wait_for(lambda: time.monotonic() - enqueued_at > ASK_EVERY_S, "the moment for the helper to ask again")
        photo.is_released.set()
        wait_for(lambda: Job.fetch(RUN_ROUND.id_for(OTHER), connection=world.redis).is_finished, "its turn", 60)

    photo = while_a_helper_is_at_it(world, let_another_wait)
    with caplog.at_level(logging.INFO):
        world.turn()
    assert f"project {UID}: 0 {FROM_OTHERS}" in caplog.text
    assert_ranked(world)
