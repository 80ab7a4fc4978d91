"""A folder that one process at a time works in."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backend.errors import ProcessFailed


@contextmanager
def alone_in(folder: Path, refusal: str) -> Iterator[None]:
    """Keep an existing folder to this process; the kernel lets go of it however we end.

    Raises ProcessFailed with the refusal where another process has it.
    """
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            raise ProcessFailed(refusal) from err
        yield
