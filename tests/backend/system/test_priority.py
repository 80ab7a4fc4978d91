from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from backend.system.priority import AUTOGROUP

GIVE_WAY = (
    "import os; from pathlib import Path; from backend.system.priority import AUTOGROUP, give_way; give_way(7); "
    "print(os.nice(0), AUTOGROUP.read_text().split()[-1] if AUTOGROUP.exists() else 'none')"
)


def ask(*, own_session: bool) -> list[str]:
    argv = [sys.executable, "-c", GIVE_WAY]
    return subprocess.check_output(argv, text=True, start_new_session=own_session).split()


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="this kernel shares the processors out among processes alone")
def test_session_of_a_worker_yields_to_the_sessions_of_others() -> None:
    before = Path("/proc/self/autogroup").read_text()
    assert ask(own_session=True)[1] == "7", "its niceness alone counts among the processes of its own session"
    assert ask(own_session=False)[1] == before.split()[-1], "a session that others share is left as it was"


def test_process_itself_yields_within_its_session() -> None:
    own = int(subprocess.check_output([sys.executable, "-c", "import os; print(os.nice(0))"], text=True))
    assert int(ask(own_session=True)[0]) == min(own + 7, 19)
