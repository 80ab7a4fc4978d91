"""Child processes that are watched, and stopped whatever happens to us."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import psutil

from backend.errors import ProcessFailed

GRACE_S = 15.0
POLL_S = 0.2


@dataclass(frozen=True, eq=False)
class Child:
    """A started process: its name for people, and its log file (None: ours)."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path | None


class Processes:
    """Starts processes, each in a session of its own; on exit stops them in reverse order, grandchildren too."""

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
    ) -> None:
        """Start a process and wait until it is ready; ProcessFailed with one line if it dies or takes too long.

        `env` None inherits ours; `log` None lets it write to our own output.
        """
        output = log.open("ab") if log is not None else None
        try:
            process = subprocess.Popen(
                list(argv),
                env=dict(env) if env is not None else None,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output is not None else None,
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )
        except OSError as err:
            raise ProcessFailed(f"{name} could not be started: {err}") from err
        finally:
            if output is not None:
                output.close()
        child = Child(name, process, log)
        self.children.append(child)
        deadline = time.monotonic() + timeout_s
        while ready is not None and not ready():
            _check(child)
            if time.monotonic() > deadline:
                raise ProcessFailed(f"{name} was not ready after {timeout_s:.0f} s; {_where(child)}")
            time.sleep(POLL_S)

    def check(self) -> None:
        """Raise ProcessFailed if a child has ended."""
        for child in self.children:
            _check(child)

    def stop(self) -> None:
        """End all children, the last started first: SIGTERM to the session, SIGKILL after the grace period."""
        with _signals_held():
            while self.children:
                _end(self.children.pop(), self.grace_s)


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


def _check(child: Child) -> None:
    code = child.process.poll()
    if code is not None:
        raise ProcessFailed(f"{child.name} ended with code {code}; {_where(child)}")


def _where(child: Child) -> str:
    """The last line of a child's log and where to read the rest."""
    if child.log is None:
        return "its messages stand above"
    lines = [line.strip() for line in child.log.read_text(errors="replace").splitlines() if line.strip()]
    return f"its log {child.log} ends with: {lines[-1][:300] if lines else '(nothing)'}"


def _end(child: Child, grace_s: float) -> None:
    """Stop a process and everything in its session, also where the process itself is gone already."""
    group = child.process.pid
    family = _descendants(child)
    _signal_group(group, signal.SIGTERM)
    for process in family:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    deadline = time.monotonic() + grace_s
    while time.monotonic() < deadline and (child.process.poll() is None or any(p.is_running() for p in family)):
        family = [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
        time.sleep(POLL_S / 4)
    _signal_group(group, signal.SIGKILL)
    for process in family:
        with contextlib.suppress(psutil.Error):
            process.kill()
    child.process.wait()


def _descendants(child: Child) -> list[psutil.Process]:
    try:
        return list(psutil.Process(child.process.pid).children(recursive=True))
    except psutil.Error:
        return []


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


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


def _die_with_parent() -> None:
    """In the child, before it runs: have the kernel send SIGTERM when the parent dies, even of SIGKILL."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
