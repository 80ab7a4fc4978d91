"""`maskal serve`: the web app under gunicorn, one process with threads, which owns the model."""

from __future__ import annotations

import logging
import os
import signal
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.config import Config
from gunicorn.glogging import Logger as GunicornLogger

from backend.project.credentials import load_credentials
from backend.queue.connection import redis_of
from backend.settings import Settings
from backend.system.processes import require_port_free
from backend.web.app import create_app
from backend.web.protocol import PREDICTIONS_AT_ONCE

logger = logging.getLogger(__name__)

THREADS = PREDICTIONS_AT_ONCE + 4
"""Some are left for what must be answered at once."""

GRACEFUL_TIMEOUT_S = 10


class _Logger(GunicornLogger):
    """Leaves gunicorn's messages to the log that all others go to."""

    def setup(self, cfg: Config) -> None:
        """As gunicorn calls it once it knows its settings."""
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


class Server(BaseApplication):
    """gunicorn around the web app, set up in code."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        super().__init__()

    def load_config(self) -> None:
        """One worker with threads; requests may take as long as Label Studio waits."""
        options: dict[str, Any] = {
            "bind": f"{self.settings.host}:{self.settings.port}",
            "workers": 1,
            "threads": THREADS,
            "worker_class": "gthread",
            "timeout": 120,
            "graceful_timeout": GRACEFUL_TIMEOUT_S,
            "accesslog": None,
            "logger_class": _Logger,
            "loglevel": "warning",
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """Make the app, in gunicorn's worker process."""
        return create_app(self.settings, start_anew)


def start_anew() -> None:
    """Have gunicorn replace its worker process, this one, as soon as it has answered what it is asked now."""
    os.kill(os.getpid(), signal.SIGTERM)


def serve(settings: Settings) -> None:
    """Serve until stopped; ProcessFailed if the port is taken, BadSetting or OSError if DATA_DIR cannot be used."""
    require_port_free(settings.port, "the backend", "PORT")
    load_credentials(settings)  # what is wrong there or with REDIS_URL gunicorn would tell by a traceback
    redis_of(settings, connect_timeout_s=1, timeout_s=1)
    logger.info("serving on http://%s:%d, data in %s", settings.host, settings.port, settings.data_dir)
    Server(settings).run()
