"""Child processes that are watched, and stopped whatever happens to us."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import psutil

from backend.errors import ProcessFailed

GRACE_S = 15.0
KILLED_S = 10.0  # how long the kernel may take to remove what was killed
POLL_S = 0.2


@dataclass(frozen=True, eq=False)
class Child:
    """A started process.

    name       for people
    log        its log file (None: ours) and where in it this run begins, in bytes (`log_start`)
    is_needed  whether the others need it until they have ended
    """

    name: str
    process: subprocess.Popen[bytes]
    log: Path | None
    log_start: int
    is_needed: bool


class Processes:
    """Starts processes, each in a session of its own; on exit stops all of them, grandchildren too."""

    def __init__(self, grace_s: float = GRACE_S) -> None:
        self.grace_s = grace_s
        self.children: list[Child] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        log: Path | None,
        ready: Callable[[], bool] | None = None,
        timeout_s: float = 60.0,
        is_needed: bool = False,
    ) -> None:
        """Start a process and wait until it is ready; ProcessFailed with one line if it dies or takes too long.

        `env` None inherits ours; `log` None lets it write to our own output; what `is_needed` by the others is
        stopped after them. On Linux the process is told to end when
        the thread that calls this is gone, so call it from one that stays.
        """
        output = log.open("ab") if log is not None else None
        log_start = output.seek(0, os.SEEK_END) if output is not None else 0
        try:
            process = subprocess.Popen(
                list(argv),
                env=dict(env) if env is not None else None,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output is not None else None,
                start_new_session=True,
                preexec_fn=functools.partial(_die_with, os.getpid()) if sys.platform == "linux" else None,
            )
        except OSError as err:
            raise ProcessFailed(f"{name} could not be started: {err}") from err
        finally:
            if output is not None:
                output.close()
        child = Child(name, process, log, log_start, is_needed)
        self.children.append(child)
        if ready is not None:
            _wait_until(ready, child, timeout_s)

    def wait(self, name: str, ready: Callable[[], bool], timeout_s: float) -> None:
        """Wait until the process of that name that was started last is ready; ProcessFailed as when starting it."""
        child = next(child for child in reversed(self.children) if child.name == name)
        _wait_until(ready, child, timeout_s)

    def forget_ended(self) -> bool:
        """Leave the process that was started last to itself if it has ended; whether it has."""
        has_ended = self.children[-1].process.poll() is not None
        if has_ended:
            self.children.pop()
        return has_ended

    def check(self) -> None:
        """Raise ProcessFailed if a child has ended."""
        for child in self.children:
            _check(child)

    def stop(self) -> None:
        """End all children at once: SIGTERM to each one's family, SIGKILL after the grace period.

        Those that are needed by the others go last, so it takes at most twice as long as one child does.
        """
        with _signals_held():
            for is_needed in (False, True):
                _end([child for child in self.children if child.is_needed == is_needed], self.grace_s)
            self.children.clear()


def free_port(preferred: int | None = None) -> int:
    """The preferred port, or one that was free a moment ago on loopback."""
    if preferred is not None:
        return preferred
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def require_port_free(port: int, what: str, setting: str) -> None:
    """Raise ProcessFailed with one line if something listens on a port already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as err:
            raise ProcessFailed(
                f"port {port} for {what} is taken{_holder(port)}; stop that program or choose another with {setting}"
            ) from err


def _holder(port: int) -> str:
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
                return (
                    f" by {psutil.Process(connection.pid).name()} (process {connection.pid})" if connection.pid else ""
                )
    return ""


def _wait_until(ready: Callable[[], bool], child: Child, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not ready():
        _check(child)
        if time.monotonic() > deadline:
            raise ProcessFailed(f"{child.name} was not ready after {timeout_s:.0f} s; {_where(child)}")
        time.sleep(POLL_S)
    _check(child)  # another program may have answered in its place


def _check(child: Child) -> None:
    code = child.process.poll()
    if code is not None:
        raise ProcessFailed(f"{child.name} ended with code {code}; {_where(child)}")


def _where(child: Child) -> str:
    """The last line of a child's log and where to read the rest; lines of earlier runs are not its own."""
    if child.log is None:
        return "its messages stand above"
    text = child.log.read_bytes()[child.log_start :].decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"its log {child.log} ends with: {lines[-1][:300] if lines else '(nothing)'}"


def _end(children: Sequence[Child], grace_s: float) -> None:
    """Stop processes and their families, also where a process itself is gone already."""
    family = _families(children)
    for process in family:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _wait_for_end(children, family, grace_s)
    family = family | _families(children)  # with those born meanwhile
    for process in family:
        with contextlib.suppress(psutil.Error):
            process.kill()
    _wait_for_end(children, family, KILLED_S)


def _wait_for_end(children: Sequence[Child], family: Collection[psutil.Process], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while any(child.process.poll() is None for child in children) or any(map(_is_alive, family)):
        if time.monotonic() > deadline:
            return
        time.sleep(POLL_S / 4)


def _families(children: Sequence[Child]) -> set[psutil.Process]:
    return {process for child in children for process in _family(child)}


def _family(child: Child) -> list[psutil.Process]:
    """The living of a child's session, which its orphans stay in, and of its descendants in sessions of their own."""
    members = {p for p in psutil.process_iter() if _session(p) == child.process.pid}
    with contextlib.suppress(psutil.Error):
        if child.process.poll() is None:
            leader = psutil.Process(child.process.pid)
            members.update([leader, *leader.children(recursive=True)])
    return [process for process in members if _is_alive(process)]


def _session(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except OSError:
        return None


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Let a second Ctrl-C not interrupt the stopping of the others."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _die_with(parent: int) -> None:
    """In the child, before it runs: have the kernel send SIGTERM when the parent dies, even of SIGKILL."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before we asked
            os.kill(os.getpid(), signal.SIGTERM)
