from __future__ import annotations

import logging
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from redis import Redis

from backend.settings import Settings
from backend.web import readiness
from backend.web.app import create_app
from tests.backend.image_servers import Server


@pytest.fixture
def ready_settings(settings: Settings, label_studio: Server) -> Settings:
    """Of a backend all of whose parts answer."""
    label_studio.files["/api/version"] = b'{"release": "1.20.0"}'
    return replace(settings, label_studio_url=label_studio.url, label_studio_api_key="key")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB of its own."""
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine lets nobody mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def asked(client: FlaskClient) -> tuple[int, list[str]]:
    answer = client.get("/ready")
    return answer.status_code, answer.json.get("failing", [])


def test_a_backend_whose_parts_all_answer_is_ready_and_leaves_nothing_behind(ready_settings: Settings) -> None:
    client = create_app(ready_settings).test_client()
    before = sorted(ready_settings.data_dir.rglob("*"))
    assert client.get("/ready").json == {"status": "READY"}
    assert sorted(ready_settings.data_dir.rglob("*")) == before


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("Redis", {"redis_url": "redis://127.0.0.1:9/0"}),
        ("Label Studio", {"label_studio_url": "http://127.0.0.1:9"}),
        ("Label Studio", {"label_studio_url": None}),
    ],
)
def test_only_the_failing_part_is_named_and_the_log_says_why(
    ready_settings: Settings, caplog: pytest.LogCaptureFixture, part: str, change: dict[str, str | None]
) -> None:
    client = create_app(replace(ready_settings, **change)).test_client()
    with caplog.at_level(logging.WARNING):
        answer = client.get("/ready")
    assert (answer.status_code, answer.json) == (503, {"status": "FAILING", "failing": [part]})
    assert f"not ready, {part}: " in caplog.text
    assert client.get("/health").status_code == 200, "it lives all the same"


def test_a_redis_that_answers_and_takes_no_data_is_named_until_it_does(
    ready_settings: Settings, full_redis: Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(readiness, "KEPT_S", 0.0)
    client = create_app(ready_settings).test_client()
    assert asked(client) == (503, ["Redis"])
    assert "takes no data (" in caplog.text and "raise its maxmemory" in caplog.text
    full_redis.config_set("maxmemory", 0)
    assert asked(client) == (200, [])


def fill(disk: Path) -> Callable[[], object]:
    """Fill a disk to its last byte; what is returned makes room again."""
    with (disk / "filler").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))
    return (disk / "filler").unlink


def lock(disk: Path) -> Callable[[], object]:
    """Make a disk read-only; what is returned makes it writable again."""
    remount = lambda mode: subprocess.run(["mount", "-o", f"remount,{mode}", str(disk)], check=True)  # noqa: E731
    remount("ro")
    return lambda: remount("rw")


@pytest.mark.parametrize("fault", [fill, lock])
def test_a_full_or_read_only_disk_is_named_until_it_is_mended(
    ready_settings: Settings, small_disk: Path, monkeypatch: pytest.MonkeyPatch, fault
) -> None:
    monkeypatch.setattr(readiness, "KEPT_S", 0.0)
    client = create_app(replace(ready_settings, data_dir=small_disk)).test_client()
    assert asked(client) == (200, [])
    mend = fault(small_disk)
    assert asked(client) == (503, ["DATA_DIR"])
    mend()
    assert asked(client) == (200, [])


def test_asking_often_asks_label_studio_once(ready_settings: Settings, label_studio: Server) -> None:
    client = create_app(ready_settings).test_client()
    assert [client.get("/ready").status_code for _ in range(20)] == [200] * 20
    assert [path for path, _ in label_studio.seen] == ["/api/version"]


def test_a_label_studio_that_hangs_is_given_up_soon(ready_settings: Settings, answering, monkeypatch) -> None:
    monkeypatch.setattr(readiness, "LABEL_STUDIO_WAIT_S", 0.3)
    hanging = answering(b"", lambda connection, stopped: stopped.wait())
    client = create_app(replace(ready_settings, label_studio_url=hanging)).test_client()
    begun = time.monotonic()
    assert asked(client) == (503, ["Label Studio"])
    assert 0.3 <= time.monotonic() - begun < 10
