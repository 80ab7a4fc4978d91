"""The log: lines for people, or for machines one JSON object a line with the ids of project, round and job."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from pythonjsonlogger.json import JsonFormatter

NOISY = ("httpx", "httpcore", "rq", "faster_coco_eval", "PIL")

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What moves the cursor, colours, or turns the direction of a text; tabs and line ends are left."""

_IDS: ContextVar[Mapping[str, int | str] | None] = ContextVar("ids", default=None)


@contextmanager
def about(**ids: int | str) -> Iterator[None]:
    """What is logged in the block, by this thread, is about this project, round or job."""
    token = _IDS.set({**(_IDS.get() or {}), **ids})
    try:
        yield
    finally:
        _IDS.reset(token)


def visible(text: str) -> str:
    """The text with control characters written out: names of files and tasks may hold orders to a terminal."""
    return CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


class _Lines(logging.Formatter):
    """Lines for people, in which a message of several lines cannot pass for several messages."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """As logging calls it, before a traceback is added."""
        return visible(super().formatMessage(record)).replace("\n", "\n    ")


def set_up_logging(log_format: str, level: int) -> None:
    """Log to standard error from now on, as "text" or "json"."""
    handler = logging.StreamHandler()
    if log_format == "json":
        renamed = {"levelname": "level", "name": "logger", "exc_info": "traceback"}
        fields = ("levelname", "name", "message")
        handler.setFormatter(JsonFormatter(fields, style="sequence", rename_fields=renamed, timestamp="time"))
        handler.addFilter(_add_ids)
    else:
        handler.setFormatter(_Lines("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=level, handlers=[handler])
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _add_ids(record: logging.LogRecord) -> bool:
    for name, value in (_IDS.get() or {}).items():
        setattr(record, name, value)
    return True
