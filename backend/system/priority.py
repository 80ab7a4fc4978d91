"""How much of the processors a process asks for beside others."""

from __future__ import annotations

import logging
import os
from pathlib import Path

logger = logging.getLogger(__name__)

AUTOGROUP = Path("/proc/self/autogroup")
"""Linux shares the processors out among sessions first; within one alone a process's own niceness counts (sched(7))."""


def give_way(niceness: int) -> None:
    """Let this process and its children to come yield to all others of the machine.

    In a container the session's part has no effect: there the container's share of the processors counts.
    """
    os.nice(niceness)
    if os.getsid(0) != os.getpid():
        return  # a shell's session: what else runs in it is not ours to slow down
    try:
        AUTOGROUP.write_text(str(niceness))
    except OSError as err:
        logger.debug("%s cannot be set: %s", AUTOGROUP, err)
