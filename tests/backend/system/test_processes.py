from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from backend.errors import ProcessFailed
from backend.system.processes import Processes, require_port_free
from tests.e2e.waiting import wait_for

STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open(sys.argv[1], "w").write(str(child.pid) + "\\n")
time.sleep(600)
"""

PARENT = """
import sys, time
from pathlib import Path
from backend.system.processes import Processes
with Processes() as processes:
    code = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid()) + chr(10)); time.sleep(600)"
    processes.start("child", [sys.executable, "-c", code, sys.argv[1]], log=None,
                    ready=(lambda: False) if sys.argv[2] == "never" else None, timeout_s=600)
    time.sleep(600)
"""


def pid_in(path: Path) -> int:
    return wait_for(lambda: path.exists() and path.read_text().endswith("\n") and int(path.read_text()), "a pid", 30)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_child_that_dies_is_named_with_its_last_words(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    with (
        Processes() as processes,
        pytest.raises(ProcessFailed, match=r"server ended with code 3; .*ends with: no luck"),
    ):
        argv = [sys.executable, "-c", "import sys; print('hello'); print('no luck'); sys.exit(3)"]
        processes.start("server", argv, log=log, ready=lambda: False, timeout_s=60)


def test_a_child_may_be_waited_for_later(tmp_path: Path) -> None:
    mark = tmp_path / "ready"
    with Processes() as processes:
        code = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(600)"
        processes.start("server", [sys.executable, "-c", code, str(mark)], log=None)
        processes.start("other", [sys.executable, "-c", "import time; time.sleep(600)"], log=None)
        processes.wait("server", mark.exists, 60)
        with pytest.raises(ProcessFailed, match="other was not ready after 0 s"):
            processes.wait("other", lambda: False, 0.2)


def test_a_child_that_is_never_ready_is_given_up() -> None:
    with Processes(grace_s=2) as processes, pytest.raises(ProcessFailed, match="server was not ready after 1 s"):
        argv = [sys.executable, "-c", "import time; time.sleep(600)"]
        processes.start("server", argv, log=None, ready=lambda: False, timeout_s=1)


def test_a_program_that_does_not_exist_is_named() -> None:
    with Processes() as processes, pytest.raises(ProcessFailed, match="server could not be started"):
        processes.start("server", ["/no/such/program"], log=None)


def test_stubborn_children_and_grandchildren_go_too(tmp_path: Path) -> None:
    with Processes(grace_s=1) as processes:
        processes.start("stubborn", [sys.executable, "-c", STUBBORN, str(tmp_path / "pid")], log=None)
        child, grandchild = processes.children[0].process.pid, pid_in(tmp_path / "pid")
        assert not is_gone(child) and not is_gone(grandchild)
    wait_for(lambda: is_gone(child) and is_gone(grandchild), "the end of both", 10)


@pytest.mark.parametrize(
    ("number", "ready"),
    [(signal.SIGKILL, "at once"), (signal.SIGINT, "at once"), (signal.SIGINT, "never")],
    ids=["killed", "Ctrl-C", "Ctrl-C while starting"],
)
def test_nothing_outlives_us(tmp_path: Path, number: signal.Signals, ready: str) -> None:
    root = Path(__file__).resolve().parents[3]
    argv = [sys.executable, "-c", PARENT, str(tmp_path / "pid"), ready]
    parent = subprocess.Popen(argv, cwd=root, stderr=subprocess.DEVNULL)
    child = pid_in(tmp_path / "pid")
    os.kill(parent.pid, number)
    parent.wait(timeout=60)
    wait_for(lambda: is_gone(child), "the child's end", 20)


def test_a_taken_port_is_named_with_the_option_to_change_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ProcessFailed, match=rf"port {port} for Label Studio is taken.* with --port"):
            require_port_free(port, "Label Studio", "--port")
    require_port_free(port, "Label Studio", "--port")


# Starts a child, deaf to SIGTERM and in a process group of its own (as RQ's workhorse), and leaves it behind.
LEAVES_AN_ORPHAN = """
import subprocess, sys, time
from pathlib import Path
code = "import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.setpgid(0, 0);"
code += "open(sys.argv[1], 'w').write(str(os.getpid()) + chr(10)); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", code, sys.argv[1]])
while not Path(sys.argv[1]).exists() or not Path(sys.argv[1]).read_text():
    time.sleep(0.01)
sys.exit(5)
"""

SAYS_WHEN = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (open(sys.argv[1], "a").write(sys.argv[2]), sys.exit()))
open(sys.argv[1] + sys.argv[2], "w")
time.sleep(600)
"""


def test_an_orphan_of_a_dead_child_goes_too(tmp_path: Path) -> None:
    with Processes(grace_s=0.3) as processes:
        processes.start("brief", [sys.executable, "-c", LEAVES_AN_ORPHAN, str(tmp_path / "pid")], log=None)
        orphan = pid_in(tmp_path / "pid")
        assert processes.children[0].process.wait(timeout=30) == 5
        assert not is_gone(orphan)
    assert is_gone(orphan)


def test_what_the_others_need_is_stopped_after_them(tmp_path: Path) -> None:
    order = tmp_path / "order"
    with Processes() as processes:
        for name in "123":
            argv = [sys.executable, "-c", SAYS_WHEN, str(order), name]
            ready = Path(f"{order}{name}").exists
            processes.start(name, argv, log=None, ready=ready, is_needed=name == "1")
    assert sorted(order.read_text()[:2]) == ["2", "3"] and order.read_text()[2:] == "1"


def test_stubborn_children_share_one_grace_period(tmp_path: Path) -> None:
    with Processes(grace_s=1.0) as processes:
        for name in "1234":
            argv = [sys.executable, "-c", STUBBORN, str(tmp_path / name)]
            processes.start(name, argv, log=None, ready=(tmp_path / name).exists)
        started = time.monotonic()
    assert time.monotonic() - started < 2.5, "one after the other they would take four seconds"


def test_a_dead_child_is_not_ready_though_another_program_answers_in_its_place(tmp_path: Path) -> None:
    with Processes() as processes:

        def another_answers() -> bool:
            return processes.children[0].process.wait(timeout=30) == 1

        argv = [sys.executable, "-c", "exit('address already in use')"]
        with pytest.raises(ProcessFailed, match=r"server ended with code 1; .*address already in use"):
            processes.start("server", argv, log=tmp_path / "log", ready=another_answers)


def test_a_line_of_an_earlier_run_is_not_shown_as_the_reason(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("a trouble of yesterday\n")
    with Processes() as processes, pytest.raises(ProcessFailed, match=r"ends with: \(nothing\)$"):
        processes.start("server", [sys.executable, "-c", "exit(1)"], log=log, ready=lambda: False)
    assert log.read_text() == "a trouble of yesterday\n"


def test_check_names_a_child_that_died_later(tmp_path: Path) -> None:
    with Processes() as processes:
        processes.start("victim", [sys.executable, "-c", "import time; time.sleep(600)"], log=tmp_path / "log")
        processes.check()
        processes.children[0].process.kill()
        processes.children[0].process.wait(timeout=30)
        with pytest.raises(ProcessFailed, match="victim ended with code -9; "):
            processes.check()
