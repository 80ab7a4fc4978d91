"""How long `/predict` takes on a CPU, idle and while a round trains on the same cores.

    python -m tests.benchmarks.serving --json serving.json

Starts the whole system with generated fields and the small network. Asks as Label Studio does, one request after the
other, and idle also by several clients at once: for tasks that the version has ranked, and for images that it has to
score. Figures are seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from redis import Redis

from backend.care.connect import Connection, connect
from backend.demo.data import generated_data, import_images
from backend.demo.stack import Stack, start_stack
from backend.label_studio.labels import parse_label_config
from backend.project.config import ProjectConfig
from backend.project.credentials import BASIC_USER, load_credentials
from backend.project.folder import ProjectFolder, find_folder
from backend.queue.jobs import round_job
from backend.settings import read_settings
from backend.system.processes import Processes
from model.files import write_json
from tests.e2e.waiting import concluded, wait_for

IMAGES, ANNOTATED = 80, 30
CLIENTS = 8
UNKNOWN_TASK = 10**6
"""No task has such a number, so that it is in no ranking and is scored at each request."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100, help="of each kind, idle and busy")
    parser.add_argument("--iterations", type=int, default=120, help="of the first version's training")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Processes() as processes:
        stack = start_stack(processes, read_settings({**os.environ, "REDIS_URL": ""}), Path(folder))
        report = measure(stack, options.requests, options.iterations)
    report |= {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    print(json.dumps(report, indent=2))
    if options.json is not None:
        write_json(options.json, report)


def measure(stack: Stack, requests: int, iterations: int) -> dict[str, object]:
    """Percentiles of both kinds, idle and busy, and how many times longer it takes while a round trains."""
    client, redis = stack.client(), Redis.from_url(stack.settings.redis_url)
    data = generated_data(IMAGES)
    project = client.create_project("serving", data.label_config)
    labels = parse_label_config(data.label_config)
    dict(import_images(client, project.id, data.images, labels, ANNOTATED))
    config = ProjectConfig(initial_datasize=ANNOTATED, train_iterations_base=iterations, warm_start=False)
    connect(stack.settings, Connection(project.id, stack.label_studio_url, stack.login.token, config=config))
    folder = find_folder(stack.settings.data_dir, project.id, project.uid)
    wait_for(lambda: concluded(folder, 1), "the first version", 1800)
    wait_for(lambda: not is_busy(redis, folder), "the worker to rest")
    open_tasks = [task for task in client.tasks(project.id) if not task.is_labeled]
    password = load_credentials(stack.settings).basic_password
    about = {"project": project.uid, "label_config": project.label_config, "params": {}}
    url = f"{stack.settings.backend_url}/p/{project.id}"
    http = httpx.Client(base_url=url, auth=(BASIC_USER, password), timeout=60)

    def ask(number: int, is_ranked: bool) -> float:
        task = open_tasks[number % len(open_tasks)]
        body = {**about, "tasks": [{"id": task.id if is_ranked else UNKNOWN_TASK + number, "data": task.data}]}
        started = time.monotonic()
        (result,) = http.post("/predict", json=body).raise_for_status().json()["results"]
        assert result["score"] is not None
        return time.monotonic() - started

    kinds = (Kind("ranked", lambda number: ask(number, True)), Kind("scored", lambda number: ask(number, False)))
    for kind in kinds:
        kind.ask(0)
    idle = {kind.name: percentiles([kind.ask(n) for n in range(requests)]) for kind in kinds}
    crowd = {kind.name: percentiles(ask_at_once(kind, requests)) for kind in kinds}
    folder.store_config(config.model_copy(update={"train_iterations_base": 10**6}))
    (backend,) = client.backends(project.id)
    client.request("POST", f"/api/ml/{backend['id']}/train", json={})
    wait_for(lambda: is_training(redis, folder), "the training")
    busy = {kind.name: percentiles([kind.ask(n) for n in range(requests)]) for kind in kinds}
    assert is_training(redis, folder), "the training ended too early"
    ratio = {name: round(busy[name]["p95"] / idle[name]["p95"], 2) for name in idle}
    return {"idle": idle, f"idle_{CLIENTS}_clients": crowd, "while_training": busy, "p95_ratio": ratio}


@dataclass(frozen=True)
class Kind:
    """A kind of request: seconds that the one of a number takes."""

    name: str
    ask: Callable[[int], float]


def ask_at_once(kind: Kind, requests: int) -> list[float]:
    """Seconds of each request where each of CLIENTS clients asks for the next as soon as it has its answer."""
    with ThreadPoolExecutor(CLIENTS) as clients:
        return list(clients.map(kind.ask, range(requests, 2 * requests)))


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    return {f"p{q}": round(float(np.percentile(seconds, q)), 4) for q in (50, 95, 99)}


def is_busy(redis: Redis, folder: ProjectFolder) -> bool:
    job = round_job(redis, folder.uid)
    return job is not None and job["job_status"] in ("queued", "started")


def is_training(redis: Redis, folder: ProjectFolder) -> bool:
    job = round_job(redis, folder.uid)
    return bool(job and job["progress"] and job["progress"]["step"] == "train" and job["progress"].get("loss"))


if __name__ == "__main__":
    main()
