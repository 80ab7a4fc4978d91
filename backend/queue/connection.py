"""The Redis that holds the queue."""

from __future__ import annotations

from redis import Redis
from redis.exceptions import RedisError

from backend.errors import QueueUnavailable
from backend.settings import DEFAULT_REDIS_URL, Settings


def open_redis(settings: Settings) -> Redis:
    """The queue's Redis; QueueUnavailable if it does not answer."""
    url = settings.redis_url or DEFAULT_REDIS_URL
    redis = Redis.from_url(url, socket_connect_timeout=1, socket_timeout=5)
    try:
        redis.ping()
    except RedisError as err:
        raise QueueUnavailable(
            f"no Redis answers at {redis_address(settings)} ({err}); start one or set REDIS_URL"
        ) from err
    return redis


def redis_address(settings: Settings) -> str:
    """Where the queue's Redis is, without its password."""
    scheme, _, rest = (settings.redis_url or DEFAULT_REDIS_URL).partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
