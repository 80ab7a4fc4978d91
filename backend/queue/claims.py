"""Which Redis the workers of a DATA_DIR share: its locks keep them apart, so those of another one may not join."""

from __future__ import annotations

import logging
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from redis import Redis

from model.files import write_json
from model.stored_json import read_as

logger = logging.getLogger(__name__)

KEY = "maskal:queue"
NAME = "queue.json"
RENEW_S = 15.0
LIFE_S = 60.0
"""So long after its last renewal a claim counts; then the workers that made it are gone."""


@dataclass(frozen=True)
class _Claim:
    """The id of a queue, as its Redis knows it, and when its workers last said so (Unix time)."""

    queue: str
    at: float


class Claim:
    """The claim of one `maskal worker` on its DATA_DIR, in the name of all workers at its Redis."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / NAME
        self._queue: str | None = None

    def renew(self, redis: Redis) -> bool:
        """Whether this Redis's workers may work; not while those of another one do.

        A Redis that has lost its data is told its id again.
        """
        redis.set(KEY, self._queue or secrets.token_hex(8), nx=True)
        self._queue = _queue_of(redis)
        before = _read(self._path)
        if before is not None and before.queue != self._queue and _is_fresh(before):
            return False
        if before is None or before.queue != self._queue or abs(time.time() - before.at) > RENEW_S:
            self._write()
        return True

    def _write(self) -> None:
        try:
            write_json(self._path, asdict(_Claim(self._queue or "", time.time())))
        except OSError as err:
            logger.error("DATA_DIR cannot be written: %s", err)


def is_claimed_elsewhere(redis: Redis, data_dir: Path) -> bool:
    """Whether the workers of another Redis look after a DATA_DIR."""
    claim = _read(data_dir / NAME)
    return claim is not None and claim.queue != _queue_of(redis) and _is_fresh(claim)


def _queue_of(redis: Redis) -> str | None:
    found: bytes | None = redis.get(KEY)  # type: ignore[assignment]
    return None if found is None else found.decode()


def _is_fresh(claim: _Claim) -> bool:
    return abs(time.time() - claim.at) < LIFE_S


def _read(path: Path) -> _Claim | None:
    try:
        return read_as(path, _Claim)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as err:
        logger.warning("%s cannot be read and is written anew: %s", path, err)
        return None
