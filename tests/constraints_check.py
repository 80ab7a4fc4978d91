"""A program: do the constraints resolve to wheels on every Python that we name? Installs nothing."""

from __future__ import annotations

import configparser
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bootstrap import PURE_SOURCES

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
PLATFORM = "x86_64-manylinux_2_28"


def requirements() -> list[str]:
    """All that setup.cfg asks for, extras included."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    blocks = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    return sorted({line.strip() for block in blocks for line in block.splitlines() if line.strip()})


def resolves(python: str, constraints: str, wanted: Sequence[str], sources: Sequence[str] = ()) -> bool:
    """Whether wheels exist for all requirements on that Python; `sources` may come as pure-Python source."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "-", "--only-binary=:all:"]
    command += [f"--python-version={python}", f"--python-platform={PLATFORM}", f"--constraint={ROOT / constraints}"]
    command += [f"--no-binary={package}" for package in sources]
    done = subprocess.run(command, input="\n".join(wanted), capture_output=True, text=True, check=False)
    reason = "" if done.returncode == 0 else f": {done.stderr.strip()}"
    print(f"{constraints} on Python {python}: {'FAILED' if reason else 'ok'}{reason}", flush=True)
    return not reason


def main() -> int:
    """Check both files on all Pythons; exit code 1 if one fails."""
    results = [resolves(python, "constraints.txt", requirements()) for python in PYTHONS]
    sources = PURE_SOURCES.split(",")
    results += [resolves(python, "constraints-labelstudio.txt", ["label-studio"], sources) for python in PYTHONS]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
