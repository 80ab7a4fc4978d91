"""The Redis that holds the queue."""

from __future__ import annotations

from redis import Redis
from redis.exceptions import RedisError

from backend.errors import BadSetting, QueueUnavailable
from backend.settings import DEFAULT_REDIS_URL, Settings


def open_redis(settings: Settings) -> Redis:
    """The queue's Redis; QueueUnavailable if it does not answer, BadSetting if its address is none."""
    url = settings.redis_url or DEFAULT_REDIS_URL
    try:
        redis = Redis.from_url(url, socket_connect_timeout=1, socket_timeout=5)
        redis.ping()
    except ValueError as err:
        raise BadSetting(
            f"REDIS_URL must be an address such as {DEFAULT_REDIS_URL}, got {redis_address(settings)!r} ({err})"
        ) from err
    except RedisError as err:
        raise QueueUnavailable(
            f"no Redis answers at {redis_address(settings)} ({err}); start one or set REDIS_URL"
        ) from err
    return redis


def redis_address(settings: Settings) -> str:
    """Where the queue's Redis is, without its password."""
    scheme, _, rest = (settings.redis_url or DEFAULT_REDIS_URL).partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
