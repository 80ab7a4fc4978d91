from __future__ import annotations

import os
from pathlib import Path

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from backend.queue.jobs import RUN_ROUND, enqueue
from backend.rounds.folder import Round
from backend.workers.turns import Turn
from tests.backend.conftest import UID

OTHER = "2.1700000001"


@pytest.fixture
def current(tmp_path: Path) -> Round:
    made = Round(tmp_path / "1")
    made.path.mkdir()
    return made


def test_a_ranking_makes_way_where_another_projects_round_waits(redis: Redis, current: Round) -> None:
    turn = Turn(redis, UID, current, 0)
    enqueue(redis, RUN_ROUND, UID)
    assert not turn.is_over("rank", 0.5), "its own round waits for nobody"
    enqueue(redis, RUN_ROUND, OTHER)
    assert turn.is_over("rank", 0.5)
    for step, share in [("rank", 0.0), ("rank", 1.0), ("evaluate", 0.5), ("push", 0.5), ("publish", 0.0)]:
        assert not turn.is_over(step, share), (step, share)


def test_a_round_has_its_share_before_it_makes_way(redis: Redis, current: Round) -> None:
    enqueue(redis, RUN_ROUND, OTHER)
    turn = Turn(redis, UID, current, 60)
    assert not turn.is_over("rank", 0.1) and not turn.is_over("rank", 0.9)


def test_a_training_makes_way_only_where_it_has_just_been_kept(redis: Redis, current: Round) -> None:
    enqueue(redis, RUN_ROUND, OTHER)
    current.checkpoint.touch()
    turn = Turn(redis, UID, current, 0)
    assert not turn.is_over("train", 0.1), "that was kept in an earlier turn"
    os.utime(current.checkpoint, (1, 1))
    assert turn.is_over("train", 0.2)
    assert not turn.is_over("train", 0.3)


def test_a_round_does_not_make_way_where_redis_is_away(current: Round) -> None:
    away = Redis(port=1, retry=Retry(NoBackoff(), 0))
    assert not Turn(away, UID, current, 0).is_over("rank", 0.5)
