"""How fast a large queue is published, and what looking at an unchanged project costs, on a real Label Studio.

    python -m tests.benchmarks.push --tasks 20000 --json push.json

Compares `Pusher` with plain calls of the bulk import (the server's own speed), kills a push in the middle and goes on,
and counts the calls and bytes of a look at the project when nothing has changed.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import httpx
import numpy as np
import torch

from backend.demo.stack import Stack, start_stack
from backend.label_studio.labels import parse_label_config
from backend.label_studio.pushing import Pusher, prediction
from backend.project.config import ProjectConfig
from backend.project.folder import connect_folder
from backend.project.workplace import open_workplace
from backend.queue.connection import open_redis
from backend.rounds import task_queue
from backend.rounds.scoring import Scorer
from backend.settings import read_settings
from backend.system.processes import Processes
from backend.workers.jobs import examine_project
from model.engines.base import EngineConfig
from model.engines.loader import build_engine
from model.files import write_json
from model.rankings import RankedTask
from model.registry import VersionFields
from model.stored_weights import add_version
from sampling.ranking import Moment
from tests.e2e.conftest import COLOURS, discs

IMAGES = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Processes() as processes:
        settings = read_settings({**os.environ, "REDIS_URL": ""})
        stack = start_stack(processes, settings, Path(folder))
        report = measure(stack, Path(folder), options.tasks, options.repeats)
    print(json.dumps(report, indent=2))
    if options.json is not None:
        write_json(options.json, report)


def measure(stack: Stack, folder: Path, tasks: int, repeats: int) -> dict[str, object]:
    """The whole report."""
    client = stack.client()
    client.http.timeout = 300
    data = discs(IMAGES)
    project = client.create_project("push", data.label_config)
    address = client.upload_image(project.id, "a.png", data.images[0].content)
    ids = []
    for start in range(0, tasks, 5000):
        wanted = [{"data": {"image": address}}] * min(5000, tasks - start)
        ids += client.import_tasks(project.id, wanted)
    rows = scored_rows(ids)
    report = {"cleaning": cleaning(stack, project.id, project.uid, rows), "reconcile": reconcile(stack, project.uid)}
    seconds: dict[str, list[float]] = {"server": [], "ours": []}
    for repeat in range(repeats):
        sent = [prediction(row, f"plain-{repeat}") for row in rows]
        pusher = Pusher(client, project.id, f"ours-{repeat}", folder / f"{repeat}.json")
        both = {
            "server": lambda sent=sent: client.import_predictions(project.id, sent),
            "ours": lambda pusher=pusher: pusher.push(rows),
        }
        for name in sorted(both, reverse=repeat % 2 == 0):  # in turns, as the database grows
            seconds[name].append(timed(both[name]))
    medians = {name: round(statistics.median(values), 2) for name, values in seconds.items()}
    return {
        "tasks": tasks,
        "megabytes": round(sum(len(json.dumps(row.regions)) for row in rows) / 1e6, 1),
        "seconds": medians,
        "all_seconds": {name: [round(v, 2) for v in values] for name, values in seconds.items()},
        "ratio": round(medians["ours"] / medians["server"], 3),
        "killed": killed(stack, folder, project.id, rows),
        **report,
        "cores": os.cpu_count(),
    }


def scored_rows(ids: list[int]) -> list[RankedTask]:
    """A queue of tasks, with what the fake engine finds in a few pictures."""
    engine = build_engine("fake", tuple(COLOURS), EngineConfig())
    colours = torch.tensor([COLOURS[name] for name in engine.classes]) / 255
    engine.load_tensors({"colours": colours}, engine.classes)
    data, config = discs(IMAGES), ProjectConfig()
    labels = parse_label_config(data.label_config)
    images = [decode(i.content) for i in data.images]
    found = Scorer(engine, labels, config.scoring_config()).images(images, [1] * len(images))
    scored = {task: found[index % IMAGES] for index, task in enumerate(ids)}
    splits = dict.fromkeys(ids, "train")
    queue = task_queue.order_tasks(scored, splits, config.ranking_config(), Moment(1))
    return list(task_queue.with_regions(queue, lambda task: scored[task].regions, config))


def decode(content: bytes) -> np.ndarray:
    """RGB uint8 (h, w, 3) of a picture file."""
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def timed(action: Callable[[], object]) -> float:
    started = time.monotonic()
    action()
    return time.monotonic() - started


PUSH_IN_A_CHILD = """
import pickle, sys
from pathlib import Path
from backend.label_studio.client import LabelStudio
from backend.label_studio.pushing import Pusher
url, token, project, path = sys.argv[1:]
rows = pickle.loads(Path(path).read_bytes())
Pusher(LabelStudio(url, token), int(project), "maskal-r10", Path(path).with_suffix(".json")).push(rows)
"""


def killed(stack: Stack, folder: Path, project_id: int, rows: list[RankedTask]) -> dict[str, object]:
    """Kill a push while Label Studio works on its call, go on at once, and count what is there in the end."""
    path = folder / "rows.pickle"
    path.write_bytes(pickle.dumps(rows))
    arguments = [stack.label_studio_url, stack.login.token, str(project_id), str(path)]
    child = subprocess.Popen([sys.executable, "-c", PUSH_IN_A_CHILD, *arguments])
    journal = path.with_suffix(".json")
    while not journal.exists():
        time.sleep(0.05)
    time.sleep(2)
    child.send_signal(signal.SIGKILL)
    child.wait()
    client = stack.client()
    seconds = timed(lambda: Pusher(client, project_id, "maskal-r10", journal).push(rows))
    held = client.model_versions(project_id)["maskal-r10"]
    return {"predictions": held, "wanted": len(rows), "seconds_to_go_on": round(seconds, 1)}


def cleaning(stack: Stack, project_id: int, uid: str, rows: list[RankedTask]) -> dict[str, object]:
    """One slice of removing an old version, and how long submitting an annotation takes before and meanwhile."""
    home = connect_folder(stack.settings.data_dir, uid)
    home.store_config(ProjectConfig(engine="fake"))
    tensors = {"colours": torch.zeros(len(COLOURS), 3)}
    fields = VersionFields(9, tuple(COLOURS), "fake", {"network": "nano"}, {}, None, "", True, "")
    add_version(home.registry, fields, tensors)
    home.registry.write_ranking("maskal-r9", rows)
    home.registry.set_current("maskal-r9")
    client = stack.client()
    client.http.timeout = 300
    for version in ("maskal-r8", "maskal-r9"):
        client.import_predictions(project_id, [prediction(row, version) for row in rows])
    tasks = iter([row.task for row in rows])
    idle = [timed(lambda: client.annotate(next(tasks), [])) for _ in range(20)]
    slices: list[float] = []
    place, project = open_workplace(stack.settings, home), client.project(project_id)
    thread = threading.Thread(
        target=lambda: slices.append(
            timed(lambda: task_queue.remove_old_predictions(place, project, 0, now=time.time()))
        )
    )
    thread.start()
    busy = []
    while thread.is_alive():
        busy.append(timed(lambda: client.annotate(next(tasks), [])))
        time.sleep(0.5)
    left = client.model_versions(project_id)["maskal-r8"]
    client.delete_version(project_id, "maskal-r8")
    return {
        "removed": len(rows) - left,
        "seconds": round(slices[0], 1),
        "submit_s": {"idle": summary(idle), "meanwhile": summary(busy)},
    }


def summary(seconds: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(seconds), 3), "max": round(max(seconds), 3)}


def reconcile(stack: Stack, uid: str) -> dict[str, object]:
    """Calls, bytes and seconds of a look at the project: the first one, and when nothing has changed since."""
    home = connect_folder(stack.settings.data_dir, uid)
    redis = open_redis(stack.settings)
    reports = []
    for _ in range(3):
        with counted() as counts:
            seconds = timed(lambda: examine_project(redis, stack.settings, home))
        reports.append({**counts, "seconds": round(seconds, 2)})
    return {"first": reports[0], "unchanged": reports[-1]}


@contextmanager
def counted() -> Iterator[dict[str, int]]:
    """Counts the calls that are made meanwhile, and the bytes of their answers."""
    counts = {"calls": 0, "bytes": 0}
    send = httpx.Client.send

    def count(self: httpx.Client, request: httpx.Request, **options: object) -> httpx.Response:
        response = send(self, request, **options)
        counts["calls"] += 1
        counts["bytes"] += len(response.content)
        return response

    httpx.Client.send = count  # type: ignore[method-assign]
    try:
        yield counts
    finally:
        httpx.Client.send = send  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
