from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq import Queue, Worker

from backend.project.folder import ProjectFolder
from backend.queue.jobs import HELP_RANK, ROUNDS, RUN_ROUND, enqueue, is_another_waiting
from backend.queue.locks import held
from backend.rounds.folder import start_round
from backend.settings import Settings
from backend.workers import jobs
from backend.workers import team as module
from backend.workers.team import Duty, Team
from tests.backend.conftest import UID, queued

OTHER = "2.1700000001"
AWAY = Redis(port=1, retry=Retry(NoBackoff(), 0))


@contextmanager
def workers(redis: Redis, count: int) -> Iterator[None]:
    """So many living RQ workers look after rounds."""
    born = [Worker([Queue(ROUNDS, connection=redis)], connection=redis, name=f"w{n}") for n in range(count)]
    for worker in born:
        worker.register_birth()
    yield
    for worker in born:
        worker.register_death()


@pytest.mark.parametrize(("count", "others"), [(0, 0), (1, 0), (2, 1), (4, 3)])
def test_every_other_worker_is_called_once(redis: Redis, count: int, others: int) -> None:
    with workers(redis, count):
        team = Team(redis, UID)
        assert team.has_others() == (others > 0)
        team.call()
        Team(redis, UID).call()
    assert queued(redis, ROUNDS) == [HELP_RANK.id_for(UID, seat) for seat in range(1, others + 1)]
    job: Any = Queue(ROUNDS, connection=redis).fetch_job("help_rank-3-1700000000-1")
    assert job is None or (job.func_name, job.args) == ("backend.workers.jobs.help_rank", (UID, 1))


def test_helpers_wait_behind_the_rounds_that_wait_and_no_round_makes_way_for_them(redis: Redis) -> None:
    enqueue(redis, RUN_ROUND, OTHER)
    with workers(redis, 2):
        Team(redis, UID).call()
    assert queued(redis, ROUNDS) == [RUN_ROUND.id_for(OTHER), HELP_RANK.id_for(UID, 1)]
    assert is_another_waiting(redis, RUN_ROUND, UID) and not is_another_waiting(redis, RUN_ROUND, OTHER)


def test_who_came_later_or_went_is_called_again_after_a_while(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    team = Team(redis, UID)
    with workers(redis, 2):
        team.call()
        Queue(ROUNDS, connection=redis).empty()
        team.call()
        assert queued(redis, ROUNDS) == []
        monkeypatch.setattr(module, "CALL_EVERY_S", 0.0)
        team.call()
    assert queued(redis, ROUNDS) == [HELP_RANK.id_for(UID, 1)]


def test_a_piece_is_one_workers_at_a_time(redis: Redis) -> None:
    team, duty = Team(redis, UID), Duty(redis, UID)
    with team.taken("a:1") as ours, duty.taken("a:1") as theirs, duty.taken("a:2") as another:
        assert (ours, theirs, another) == (True, False, True)
        with team.taken("a:2") as ours:
            assert not ours
    with duty.taken("a:1") as theirs:
        assert theirs


def test_where_redis_is_away_a_round_is_alone_and_all_pieces_are_its_own(caplog: pytest.LogCaptureFixture) -> None:
    team = Team(AWAY, UID)
    with caplog.at_level(logging.WARNING):
        assert not team.has_others()
        team.call()
        with team.taken("a:1") as ours:
            assert ours
    assert caplog.text.count("ranking goes on without other workers") == 1


def test_a_redis_that_takes_no_data_leaves_a_round_alone(full_redis: Redis) -> None:
    team = Team(full_redis, UID)
    team.call()
    with team.taken("a:1") as ours:
        assert ours


def test_a_redis_that_takes_no_calls_leaves_a_round_alone(redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    with workers(redis, 2):
        redis.config_set("maxmemory", 1)
        try:
            Team(redis, UID).call()
        finally:
            redis.config_set("maxmemory", 0)
    assert "ranking goes on without other workers" in caplog.text


def test_each_seat_is_one_helpers(redis: Redis) -> None:
    with workers(redis, 3), held(redis, HELP_RANK.lock_for(UID, 1)):
        Team(redis, UID).call()
    assert queued(redis, ROUNDS) == [HELP_RANK.id_for(UID, 2)]


def test_a_redis_that_takes_data_again_is_asked_again_after_a_while(
    full_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    team = Team(full_redis, UID)
    with team.taken("a:1"):
        full_redis.config_set("maxmemory", 0)
    with workers(full_redis, 2):
        team.call()
        assert queued(full_redis, ROUNDS) == [], "not so soon"
        monkeypatch.setattr(module, "CALL_EVERY_S", 0.0)
        team.call()
        assert queued(full_redis, ROUNDS) == [HELP_RANK.id_for(UID, 1)]
    with team.taken("a:1"), team.taken("a:1") as ours:
        assert not ours, "it is asked for pieces, too"


def test_a_helper_stays_as_long_as_its_round_runs_and_no_other_waits(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ASK_EVERY_S", 0.0)
    duty = Duty(redis, UID)
    assert duty.is_over()
    with held(redis, RUN_ROUND.lock_for(UID)):
        enqueue(redis, HELP_RANK, UID, 2)
        assert not duty.is_over()
        enqueue(redis, RUN_ROUND, OTHER)
        assert duty.is_over()
        Queue(ROUNDS, connection=redis).empty()
        assert not duty.is_over()
    assert duty.is_over()


def test_a_helper_asks_redis_only_once_in_a_while(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ASK_EVERY_S", 600.0)
    duty = Duty(redis, UID)
    with held(redis, RUN_ROUND.lock_for(UID)):
        assert not duty.is_over()
    assert not duty.is_over(), "it has not asked again"


@pytest.fixture
def at_home(settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Settings:
    """The settings, which the jobs read, too."""
    monkeypatch.setenv("DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("REDIS_URL", str(settings.redis_url))
    caplog.set_level(logging.INFO)
    return settings


@pytest.mark.usefixtures("at_home")
def test_a_helper_that_cannot_help_says_so_in_a_line_and_that_is_all(
    redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    with held(redis, RUN_ROUND.lock_for("9.1700000000")):
        jobs.help_rank("9.1700000000", 2)
    [told] = [record for record in caplog.records if record.name.startswith("backend")]
    assert told.levelname == "WARNING" and told.exc_info is None
    assert "help_rank-9-1700000000-2 stopped, the round goes on without it: NotFound: " in told.getMessage()
    assert "all workers have to share one" in told.getMessage()


@pytest.mark.usefixtures("redis")
def test_a_helper_of_a_project_that_was_disconnected_meanwhile_says_nothing(
    at_home: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    ProjectFolder(at_home.data_dir / "projects" / UID).disconnect()
    jobs.help_rank(UID, 1)
    assert "stopped" not in caplog.text


def test_a_helper_that_comes_late_needs_no_torch(
    redis: Redis, at_home: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(jobs.COMPUTING, "help_rank", ("no_such_module", "help_rank"))
    jobs.help_rank(UID, 1)
    begun = start_round(ProjectFolder(at_home.data_dir / "projects" / UID), 0)
    jobs.help_rank(UID, 1)
    begun.pieces.mkdir()
    jobs.help_rank(UID, 1)
    assert "stopped" not in caplog.text, "nobody has the round"
    with held(redis, RUN_ROUND.lock_for(UID)):
        with held(redis, HELP_RANK.lock_for(UID, 1)):
            jobs.help_rank(UID, 1)
        assert "stopped" not in caplog.text, "another helper has this seat"
        begun.pieces.rmdir()
        jobs.help_rank(UID, 1)
        assert "stopped" not in caplog.text, "it is not shared yet, or not any more"
        begun.pieces.mkdir()
        with held(redis, HELP_RANK.lock_for(UID, 2)):
            jobs.help_rank(UID, 1)
    assert "stopped" in caplog.text
