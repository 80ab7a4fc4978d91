"""The Redis that holds the queue."""

from __future__ import annotations

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from backend.errors import BadSetting, QueueUnavailable
from backend.settings import DEFAULT_REDIS_URL, Settings

PROBE, PROBE_TTL_S = "maskal:probe", 60


def redis_of(settings: Settings, *, connect_timeout_s: float, timeout_s: float) -> Redis:
    """The queue's Redis, not asked yet whether it answers; BadSetting if its address is none."""
    url = settings.redis_url or DEFAULT_REDIS_URL
    try:
        return Redis.from_url(url, socket_connect_timeout=connect_timeout_s, socket_timeout=timeout_s)
    except ValueError as err:
        raise BadSetting(
            f"REDIS_URL must be an address such as {DEFAULT_REDIS_URL}, rediss:// or unix:// (a password with its / as "
            f"%2F), got {redis_address(settings)!r}"
        ) from err


def open_redis(settings: Settings) -> Redis:
    """The queue's Redis; QueueUnavailable if it does not answer, BadSetting if its address is none."""
    redis = redis_of(settings, connect_timeout_s=1, timeout_s=5)
    try:
        redis.ping()
    except RedisError as err:
        raise QueueUnavailable(
            f"no Redis answers at {redis_address(settings)} ({err}); start one or set REDIS_URL"
        ) from err
    return redis


def refusal(redis: Redis) -> str:
    """Why a Redis that answers takes no data: its memory or its disk is full, or it is a replica; "" if it does."""
    try:
        redis.set(PROBE, 1, ex=PROBE_TTL_S)
    except ResponseError as err:
        return (
            f"takes no data ({str(err).rstrip('.')}); raise its maxmemory, make room on its disk, or let it be written"
        )
    return ""


def require_writable(redis: Redis) -> None:
    """QueueUnavailable where a Redis that answers takes no data."""
    if why := refusal(redis):
        raise QueueUnavailable(f"Redis {why}")


def redis_address(settings: Settings) -> str:
    """Where the queue's Redis is, without its password."""
    login, at, place = (settings.redis_url or DEFAULT_REDIS_URL).rpartition("@")
    scheme, mark, _ = login.partition("://")
    return f"{scheme}{mark}{place}" if at and mark else place
