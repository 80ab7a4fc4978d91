"""A disk under DATA_DIR that is full, or can only be read, in the middle of each step."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.test_kills import served_and_due
from tests.faults.world import World

STEPS = ("read", "train", "evaluate", "rank", "push", "make current")
SIZE = "6m"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own at DATA_DIR."""
    path, mount = tmp_path / "data", shutil.which("mount")
    path.mkdir()
    command = [str(mount), "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(path)]
    if mount is None or os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small disk (root)")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def fill(path: Path) -> None:
    with (path / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


def remount(path: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how},size={SIZE}", str(path)], check=True)


FAULTS: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    "full": (fill, lambda path: (path / "filler").unlink()),
    "read-only": (lambda path: remount(path, "ro"), lambda path: remount(path, "rw")),
}


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_disk_fails_in_a_step_until_it_is_mended(disk: Path, world: World, fault: str, step: str) -> None:
    breaks, mend = FAULTS[fault]
    served_and_due(world)
    world.at(step, lambda: breaks(disk))
    world.looks(5)
    assert "DATA_DIR" in world.trouble() and "make room" in world.trouble()
    world.assert_whole()
    mend(disk)
    world.annotate(13)
    world.assert_recovers()
    assert all(r.state.attempts == 0 for r in world.rounds())
