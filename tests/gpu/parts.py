"""The parts by name, and the process that one of them runs in."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from tests.gpu.checks import Job


@dataclass(frozen=True)
class Part:
    """Seconds that a part gets at most, and without which it is not begun."""

    box_s: float
    least_s: float = 15.0


PARTS = {
    "machine": Part(40),
    "suite": Part(140),
    "start": Part(90),
    "scoring": Part(60),
    "fidelity": Part(70),
    "training": Part(90),
    "quality": Part(130),
}
"""In the order in which they run; each is a file of this folder with a function `check`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--device", required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--ends-at", type=float, required=True, help="seconds since 1970")
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    job = Job(options.part, options.device, options.quick, options.ends_at, options.folder)
    import_module(f"tests.gpu.{options.part}").check(job)


if __name__ == "__main__":
    main()
