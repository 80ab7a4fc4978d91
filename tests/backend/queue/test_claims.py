from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from redis import Redis

from backend.queue.claims import LIFE_S, NAME, Claim, is_claimed_elsewhere


@pytest.fixture
def other(redis: Redis, redis_url: str) -> Redis:
    """Another Redis; another database of the same server is as good as one."""
    return Redis.from_url(redis_url.replace("/0", "/1"))


def test_workers_of_another_redis_wait_until_those_before_are_gone(redis: Redis, other: Redis, tmp_path: Path) -> None:
    assert Claim(tmp_path).renew(redis)
    assert Claim(tmp_path).renew(redis), "a second machine at the same Redis"
    assert not Claim(tmp_path).renew(other)
    assert is_claimed_elsewhere(other, tmp_path) and not is_claimed_elsewhere(redis, tmp_path)
    stored = json.loads((tmp_path / NAME).read_text())
    (tmp_path / NAME).write_text(json.dumps({**stored, "at": time.time() - LIFE_S}))
    assert Claim(tmp_path).renew(other)
    assert not Claim(tmp_path).renew(redis)


def test_a_redis_that_lost_its_data_is_told_who_it_is(redis: Redis, other: Redis, tmp_path: Path) -> None:
    claim = Claim(tmp_path)
    assert claim.renew(redis)
    redis.flushall()
    assert claim.renew(redis) and not Claim(tmp_path).renew(other)


@pytest.mark.parametrize("moved_s", [-3600, 24 * 3600])
def test_a_claim_is_renewed_after_the_clock_has_stepped(redis: Redis, tmp_path: Path, moved_s: int) -> None:
    claim = Claim(tmp_path)
    claim.renew(redis)
    stored = json.loads((tmp_path / NAME).read_text())
    (tmp_path / NAME).write_text(json.dumps({**stored, "at": stored["at"] + moved_s}))
    assert claim.renew(redis)
    assert json.loads((tmp_path / NAME).read_text())["at"] == pytest.approx(time.time(), abs=30)


def test_a_torn_claim_is_written_anew(redis: Redis, tmp_path: Path) -> None:
    (tmp_path / NAME).write_text('{"queue": ')
    assert Claim(tmp_path).renew(redis)
    assert json.loads((tmp_path / NAME).read_text())["queue"] == redis.get("maskal:queue").decode()
