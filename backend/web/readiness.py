"""Whether the parts that this backend needs answer: what `/ready` tells those who look after it."""

from __future__ import annotations

import logging
import threading
import time

from redis import Redis
from redis.exceptions import RedisError

from backend.errors import BackendError
from backend.label_studio.client import LabelStudio
from backend.project.credentials import load_credentials
from backend.queue.connection import require_writable
from backend.settings import Settings
from model.files import check_writable

logger = logging.getLogger(__name__)

KEPT_S = 2.0
"""So long an answer is given again: whoever asks needs no password, and must not set others to work by asking often."""

LABEL_STUDIO_WAIT_S = 2.0


class Readiness:
    """Looks at each part in turn; one request looks while others get what was seen last."""

    def __init__(self, settings: Settings, redis: Redis) -> None:
        self.settings, self.redis = settings, redis
        self._looking = threading.Lock()
        self._seen: tuple[str, ...] = ("not looked at yet",)
        self._fresh_until = float("-inf")

    def failing(self) -> tuple[str, ...]:
        """Names of the parts that fail, and no more of them; the log has the reasons."""
        if time.monotonic() >= self._fresh_until and self._looking.acquire(blocking=False):
            try:
                self._seen = self._look()
                self._fresh_until = time.monotonic() + KEPT_S
            finally:
                self._looking.release()
        return self._seen

    def _look(self) -> tuple[str, ...]:
        checks = {"Redis": self._redis, "DATA_DIR": self._data_dir, "Label Studio": self._label_studio}
        failing = []
        for part, check in checks.items():
            try:
                check()
            except (BackendError, RedisError, OSError) as err:
                failing.append(part)
                logger.warning("not ready, %s: %s", part, err)
        return tuple(failing)

    def _redis(self) -> None:
        require_writable(self.redis)

    def _data_dir(self) -> None:
        check_writable(self.settings.data_dir)

    def _label_studio(self) -> None:
        address = load_credentials(self.settings).require_label_studio()
        client = LabelStudio(*address, timeout_s=LABEL_STUDIO_WAIT_S, attempts=1)
        try:
            client.version()
        finally:
            client.http.close()
