"""Real `maskal worker` and `maskal serve` processes that are killed, lose their Redis, or share a DATA_DIR."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import httpx
import psutil
import pytest
from redis import Redis
from redis.exceptions import RedisError

from backend.care import status
from backend.demo.stack import environment_of, start_web_app
from backend.project.credentials import SECRET_HEADER, load_credentials
from backend.queue.jobs import hint
from backend.settings import Settings
from backend.system.processes import Processes, free_port
from tests.e2e.waiting import wait_for
from tests.faults.label_studio import UID
from tests.faults.test_redis import OwnRedis
from tests.faults.world import World

FAKETIME_PLACES = ("/usr/lib", "/usr/local/lib", f"{sys.prefix}/faketime/usr/lib")
AFTER_A_DAY_S = 400.0
"""RQ ends a job that seems to have taken a day; the next one waits until its lock has run out and somebody looks."""

COMMAND = [sys.executable, "-m", "backend.cli"]


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes() as started:
        yield started


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[OwnRedis]:
    own = OwnRedis(tmp_path / "redis")
    yield own
    own.kill()


def start_worker(processes: Processes, settings: Settings, log: Path) -> None:
    processes.start("worker", [*COMMAND, "worker"], env=environment_of(settings), log=log)


def is_learned(world: World) -> bool:
    with suppress(RedisError):
        return world.is_settled() and world.followed == world.folder.registry.current()
    return False


@pytest.mark.slow
def test_a_worker_outlives_a_redis_that_comes_back_without_its_data(
    world: World, own_redis: OwnRedis, processes: Processes, tmp_path: Path
) -> None:
    settings = replace(world.settings, redis_url=own_redis.url)
    start_worker(processes, settings, tmp_path / "worker.log")
    wait_for(lambda: world.rounds(), "the begin of a round", 120)
    own_redis.kill(with_data=True)
    wait_for(lambda: world.rounds()[0].state.state == "published", "the round's end without Redis", 120)
    world.annotate(9, 10, 11, 12)
    own_redis.start()
    hint(Redis.from_url(own_redis.url), UID, is_forced=True)
    wait_for(lambda: is_learned(world), "the next round", 180)
    processes.check()
    world.assert_whole()


@pytest.mark.slow
def test_a_second_backend_with_a_redis_of_its_own_leaves_the_data_dir_alone(
    world: World, own_redis: OwnRedis, processes: Processes, tmp_path: Path
) -> None:
    log = tmp_path / "second.log"
    world.assert_recovers()
    world.annotate(9, 10, 11, 12)
    world.clock.moved_s = 0.0
    world.claim.renew(world.redis)
    second = replace(world.settings, redis_url=own_redis.url)
    start_worker(processes, second, log)

    def is_told() -> bool:
        world.claim.renew(world.redis)  # as the first backend's worker does all the time
        return "workers with another Redis look after DATA_DIR" in log.read_text()

    wait_for(is_told, "its message", 60)
    told = "\n".join(status.describe(second, Redis.from_url(own_redis.url), 1))
    assert "trouble: workers with another Redis" in told and "give all the same REDIS_URL" in told
    assert len(world.rounds()) == 1
    processes.stop()
    world.assert_recovers()


@pytest.mark.slow
def test_two_web_processes_on_one_data_dir_lead_to_one_round_and_a_killed_one_loses_nothing(
    world: World, processes: Processes, tmp_path: Path
) -> None:
    addresses = []
    for number in range(2):
        port = free_port()
        settings = replace(world.settings, port=port, backend_url=f"http://127.0.0.1:{port}")
        addresses.append(str(settings.backend_url))
        (tmp_path / str(number)).mkdir()
        start_web_app(processes, settings, tmp_path / str(number))
    headers = {SECRET_HEADER: load_credentials(world.settings).webhook_secret}
    for address in addresses:
        call = f"{address}/p/1/webhook"
        assert httpx.post(call, json={"action": "ANNOTATION_CREATED"}, headers=headers).status_code == 201
    world.assert_recovers()
    assert len(world.rounds()) == 1
    victim = psutil.Process(processes.children[0].process.pid)
    for process in [*victim.children(recursive=True), victim]:
        process.send_signal(signal.SIGKILL)
    with pytest.raises(httpx.TransportError):
        httpx.post(f"{addresses[0]}/p/1/webhook", json={"action": "ANNOTATION_CREATED"}, headers=headers)
    world.annotate(9, 10, 11, 12)
    world.looks(3)
    assert is_learned(world), "without any event"
    assert httpx.get(f"{addresses[1]}/health").status_code == 200


@pytest.mark.slow
def test_a_killed_rq_worker_ends_the_others_with_a_message_and_a_new_start_goes_on(
    world: World, own_redis: OwnRedis, processes: Processes, tmp_path: Path
) -> None:
    log = tmp_path / "worker.log"
    settings = replace(world.settings, redis_url=own_redis.url)
    start_worker(processes, settings, log)
    supervisor = psutil.Process(processes.children[0].process.pid)

    def rounds_worker() -> psutil.Process | None:
        return next((p for p in supervisor.children() if "rounds" in p.cmdline()), None)

    wait_for(lambda: world.rounds(), "the begin of a round", 120)
    wait_for(rounds_worker, "the worker", 60).kill()
    assert processes.children[0].process.wait(60) == 1
    assert "rounds worker ended with code -9" in log.read_text()
    processes.stop()
    start_worker(processes, settings, log)
    wait_for(lambda: is_learned(world), "the round's end", 180)
    world.assert_whole()


def libfaketime() -> Path:
    """The library that gives a process a clock of its own; skips where there is none."""
    found = [path for place in FAKETIME_PLACES for path in Path(place).glob("*/faketime/libfaketime.so.1")]
    if not found:
        pytest.skip("libfaketime is not here: run `make faketime`, or install it")
    return found[0]


@pytest.mark.slow
@pytest.mark.parametrize("step", ["-1h", "+1d"])
def test_the_clock_of_a_workers_processes_steps(
    world: World, own_redis: OwnRedis, processes: Processes, tmp_path: Path, step: str
) -> None:
    clock, settings = tmp_path / "clock", replace(world.settings, redis_url=own_redis.url)
    clock.write_text("+0")
    faked = {"LD_PRELOAD": str(libfaketime()), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1"}
    faked |= {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
    env = {**environment_of(settings), **faked}
    processes.start("worker", [*COMMAND, "worker"], env=env, log=tmp_path / "worker.log")
    wait_for(lambda: world.rounds(), "the begin of a round", 120)
    clock.write_text(step)
    wait_for(lambda: is_learned(world), "the round's end", 180)
    world.annotate(9, 10, 11, 12)
    hint(Redis.from_url(own_redis.url), UID)
    wait_for(lambda: len(world.rounds()) == 2 and is_learned(world), "the next round", AFTER_A_DAY_S)
    last = world.folder.registry.get("maskal-r2")
    assert abs(datetime.fromisoformat(last.created).timestamp() - time.time()) > 3000, "its clock had stepped"
    processes.check()
    world.assert_whole()
