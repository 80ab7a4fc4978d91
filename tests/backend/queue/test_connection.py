from __future__ import annotations

from pathlib import Path

import pytest

from backend.errors import BadSetting, QueueUnavailable
from backend.queue.connection import open_redis
from backend.settings import Settings


def test_a_dead_redis_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(QueueUnavailable, match=r"no Redis answers at redis://127\.0\.0\.1:9/0") as caught:
        open_redis(Settings(data_dir=tmp_path, redis_url="redis://:secret@127.0.0.1:9/0"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:secret@127.0.0.1:port/0",
        "redis//:secret@127.0.0.1:6379",
        "redis://:sec/ret@127.0.0.1:6379/0",
        "127.0.0.1:6379",
        "http://127.0.0.1:6379",
    ],
)
def test_a_redis_address_that_is_none_is_named(tmp_path: Path, url: str) -> None:
    with pytest.raises(BadSetting, match=r"REDIS_URL must be an address such as redis:.*, got") as caught:
        open_redis(Settings(data_dir=tmp_path, redis_url=url))
    assert "sec" not in str(caught.value) and "127.0.0.1" in str(caught.value).partition("got")[2]
