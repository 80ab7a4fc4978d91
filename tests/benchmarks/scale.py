"""How time and memory grow with a project: ranking, pushing, ranking again, a look and `maskal status`.

    python -m tests.benchmarks.scale --json scale.json

Takes about ten minutes at its default sizes. Uses the fake engine and a Label Studio in memory, so that what is
measured is our own share alone; `maskal status` finds no Label Studio here. Each size has a process of its own; memory
is what that has grown by during an action. The Label Studio in it keeps whose a prediction is, and not its regions. An
exponent of 1 is time or memory in proportion to the tasks.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil
import torch

from backend.care import status
from backend.project.config import ProjectConfig
from backend.project.folder import connect_folder
from backend.project.workplace import Workplace
from backend.rounds.computing import score
from backend.rounds.folder import Round
from backend.rounds.need import need_of
from backend.rounds.new_tasks import score_new_tasks
from backend.rounds.receipt import note_annotations
from backend.rounds.standing import write_standing
from backend.rounds.steps import STEPS
from backend.settings import Settings
from model.files import write_json
from model.registry import VersionFields
from model.stored_weights import add_version
from tests.backend.fake_label_studio import FakeLabelStudio, place_of
from tests.backend.round_places import COLOURS, label_of, quiet, read_round

UID = "1.1"
SIZES = (1_000, 10_000, 100_000)
ANNOTATED = 20
PASSES = 2
POLL_S = 0.02

SENT = re.compile(r'\{"task": (\d+), "score": [^,]+, "model_version": "([^"]+)"')
"""How each prediction of a call begins."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="tasks of each project")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.one is not None:
        torch.set_num_threads(1)
        print(json.dumps(measure(options.one)))
        return
    found = {size: measured_apart(size) for size in options.sizes}
    report = {"sizes": found, "exponents": exponents(found), "cores": os.cpu_count()}
    print(json.dumps(report, indent=2))
    if options.json is not None:
        write_json(options.json, report)


def measured_apart(size: int) -> dict[str, dict[str, float]]:
    """What `measure` finds in a process of its own."""
    argv = [sys.executable, "-m", "tests.benchmarks.scale", "--one", str(size)]
    done = subprocess.run(argv, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, dict[str, float]] = json.loads(done.stdout)
    return found


def measure(size: int) -> dict[str, dict[str, float]]:
    """Seconds and peak growth in MB of each action on a project of so many open tasks."""
    with tempfile.TemporaryDirectory() as data_dir:
        folder = connect_folder(Path(data_dir), UID)
        folder.store_config(ProjectConfig(engine="fake", mcd_iterations=PASSES))
        server = _Forgetful(UID, size + ANNOTATED, ANNOTATED)
        place = place_of(folder, server)
        actions: dict[str, Callable[[], object]] = {
            "rank": lambda: take(place, evaluated_round(place, 1), "rank"),
            "push": lambda: take(place, Round(folder.rounds / "1"), "push", "make current", "publish"),
            "rank again": lambda: take(place, evaluated_round(place, 2), "rank"),
            "push again": lambda: take(place, Round(folder.rounds / "2"), "push", "make current", "publish"),
            "look": lambda: look(place),
            "status": lambda: list(status.describe(Settings(data_dir=Path(data_dir)), None, 1)),
        }
        found = {name: watched(action) for name, action in actions.items()}
        assert server.model_version == "maskal-r2"
        assert len(server.tasks_with_version(1, "maskal-r2")) == size, "a task has no prediction"
    return found


class _Forgetful(FakeLabelStudio):
    """One that keeps no regions, as a real one keeps them elsewhere."""

    sent = 0

    def import_predictions(self, project_id: int, predictions: str) -> int:
        held = self.sent
        for found in SENT.finditer(predictions):
            self.stored[int(found[1])].append({"id": next(self.ids), "model_version": found[2]})
            self.sent += 1
        return self.sent - held


def evaluated_round(place: Workplace, number: int) -> Round:
    """A round with a version that knows the colours of the classes, as it is before it ranks."""
    current = read_round(place, number, {task: "a" for task in range(1, ANNOTATED + 1)})
    classes = tuple(label_of(task) for task in (1, 2))
    fields = VersionFields(number, classes, "fake", {"network": "fake"}, {}, None, "x", True, "a benchmark")
    colours = torch.tensor([COLOURS[name] for name in classes]) / 255
    add_version(place.folder.registry, fields, {"colours": colours})
    current.state.state = "evaluated"
    current.save()
    return current


def take(place: Workplace, current: Round, *names: str) -> None:
    """Take some steps of a round."""
    steps = dict(STEPS)
    for name in names:
        steps[name](place, current, quiet, None)


def look(place: Workplace) -> None:
    """What a worker does where annotations have changed and all tasks have their scores."""
    project = place.client.project(1)
    touched = note_annotations(place)
    need = need_of(place, project, in_full=True)
    pushed, is_more = score_new_tasks(place, quiet, score)
    assert (pushed, is_more) == (0, False), "all were scored"
    write_standing(place, project, need, touched)


def watched(action: Callable[[], object]) -> dict[str, float]:
    """Seconds of an action, and by how many MB the process grew meanwhile at most."""
    process, done, peak = psutil.Process(), threading.Event(), [0]
    before = process.memory_info().rss

    def watch() -> None:
        while not done.wait(POLL_S):
            peak[0] = max(peak[0], process.memory_info().rss - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.monotonic()
    try:
        action()
    finally:
        seconds = time.monotonic() - started
        done.set()
        watcher.join()
    return {"seconds": round(seconds, 3), "peak_mb": round(peak[0] / 1e6, 1)}


def exponents(found: Mapping[int, Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float | None]]:
    """By which power of the tasks each figure grows, from the second-largest size to the largest."""
    if len(found) < 2:
        return {}
    smaller, larger = sorted(found)[-2:]

    def power(name: str, figure: str) -> float | None:
        low, high = found[smaller][name][figure], found[larger][name][figure]
        return round(math.log(high / low) / math.log(larger / smaller), 2) if low > 0 and high > 0 else None

    figures: Sequence[str] = ("seconds", "peak_mb")
    return {name: {figure: power(name, figure) for figure in figures} for name in found[larger]}


if __name__ == "__main__":
    main()
