"""How long Label Studio waits for `/webhook` while a round trains, beside `/health` in the same run.

    python -m tests.benchmarks.webhooks --json webhooks.json

Starts the whole system with the fake engine, keeps a round at its training, and sends webhooks at a steady rate, each
with a connection of its own as Label Studio does, now and then `/health` in one's place; meanwhile tasks are annotated.
In the end a round is asked for, and what it learns from is compared with what was submitted. Figures are milliseconds.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psutil
from redis import Redis

from backend.care.cancel import cancel
from backend.care.connect import Connection, connect
from backend.demo.data import DemoImage, import_images, true_regions
from backend.demo.stack import Stack, start_stack
from backend.label_studio.client import Project
from backend.label_studio.labels import parse_label_config
from backend.project.config import ProjectConfig
from backend.project.credentials import SECRET_HEADER, load_credentials
from backend.project.folder import ProjectFolder, find_folder
from backend.queue.jobs import hint
from backend.rounds.folder import all_rounds, unfinished
from backend.settings import read_settings
from backend.system.processes import Processes
from model.files import write_json
from tests.benchmarks.serving import is_busy, is_training
from tests.e2e.conftest import discs
from tests.e2e.waiting import concluded, wait_for

IMAGES, ANNOTATED = 80, 12
SENDERS = 32
HEALTH_EVERY = 5
"""Of so many requests one goes to `/health`; it comes on top of the webhooks' rate."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=200, help="webhooks a second")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Processes() as processes:
        stack = start_stack(processes, read_settings({**os.environ, "REDIS_URL": ""}), Path(folder))
        report = Run(stack).measure(options.rate, options.seconds) | {"memory_mb": memory(processes)}
    report |= {"rate": options.rate, "seconds": options.seconds, "cores": os.cpu_count(), "load": os.getloadavg()}
    print(json.dumps(report, indent=2))
    if options.json is not None:
        write_json(options.json, report)


class Run:
    """A project of discs that trains while it is hit."""

    def __init__(self, stack: Stack) -> None:
        self.stack, self.client = stack, stack.client()
        self.redis = Redis.from_url(stack.settings.redis_url)
        self.project, self.folder, self.images = self._make_project()

    def measure(self, rate: float, seconds: float) -> dict[str, object]:
        """Latencies by route, what was refused, and whether the next round learns from all that was submitted."""
        self._train_on()
        done = threading.Event()
        annotator = threading.Thread(target=self._annotate, args=(done, seconds))
        annotator.start()
        answers = send(self._requests(rate, seconds))
        done.set()
        annotator.join()
        assert is_training(self.redis, self.folder), "the training ended too early"
        latencies = {path.rpartition("/")[2]: percentiles(answers, path) for path in {a.path for a in answers}}
        refused = [answer.status for answer in answers if answer.status not in (200, 201)]
        return {"latency_ms": latencies, "refused": refused, "is_exact": self._is_exact()}

    def _make_project(self) -> tuple[Project, ProjectFolder, dict[int, DemoImage]]:
        data = discs(IMAGES)
        project = self.client.create_project("webhooks", data.label_config)
        labels = parse_label_config(data.label_config)
        tasks = dict(import_images(self.client, project.id, data.images, labels, ANNOTATED))
        config = ProjectConfig(engine="fake", initial_datasize=ANNOTATED, pool_size=IMAGES, mcd_iterations=2)
        connection = Connection(project.id, self.stack.label_studio_url, self.stack.login.token, config=config)
        connect(self.stack.settings, connection)
        folder = find_folder(self.stack.settings.data_dir, project.id, project.uid)
        wait_for(lambda: concluded(folder, 1), "the first version")
        return project, folder, tasks

    def _train_on(self) -> None:
        wait_for(lambda: not is_busy(self.redis, self.folder), "the worker to rest")
        endless = {"train_iterations_base": 10**6, "warm_start": False, "early_stopping": False}
        self.folder.store_config(self.folder.config().model_copy(update=endless))
        hint(self.redis, self.folder.uid, is_forced=True)
        wait_for(lambda: is_training(self.redis, self.folder), "the training")

    def _requests(self, rate: float, seconds: float) -> Sequence[Request]:
        address = urlsplit(str(self.stack.settings.backend_url))
        secret = load_credentials(self.stack.settings).webhook_secret
        headers = {SECRET_HEADER: secret, "Content-Type": "application/json"}
        body = json.dumps({"action": "ANNOTATION_UPDATED", "project": {"id": self.project.id}})
        requests = []
        for number in range(round(rate * seconds)):
            event = Request(number / rate, address.netloc, f"/p/{self.project.id}/webhook", headers, body)
            requests.append(event)
            if number % HEALTH_EVERY == 0:
                requests.append(Request(event.at_s + 0.5 / rate, address.netloc, "/health", {}, None))
        return requests

    def _annotate(self, done: threading.Event, seconds: float) -> None:
        """Submit one task after the other over the first three quarters of the time."""
        labels = parse_label_config(self.project.label_config)
        open_tasks = [task.id for task in self.client.tasks(self.project.id) if not task.is_labeled]
        for task in open_tasks:
            self.client.annotate(task, true_regions(self.images[task], labels))
            if done.wait(0.75 * seconds / len(open_tasks)):
                return

    def _is_exact(self) -> bool:
        cancel(self.redis, self.folder)
        wait_for(lambda: unfinished(self.folder) is None, "the cancelled round's end")
        wait_for(lambda: not is_busy(self.redis, self.folder), "the worker to rest")
        usual = {"train_iterations_base": 60}
        self.folder.store_config(self.folder.config().model_copy(update=usual))
        count = len(all_rounds(self.folder))
        hint(self.redis, self.folder.uid, is_forced=True)
        wait_for(lambda: concluded(self.folder, count + 1), "the next round")
        snapshot = all_rounds(self.folder)[-1].snapshot()
        submitted = {task.id for task in self.client.annotated_tasks(self.project.id)}
        return snapshot is not None and {entry.task for entry in snapshot.entries} == submitted


@dataclass(frozen=True)
class Request:
    """A request to come: seconds after the start, and what to send; a body makes it a POST."""

    at_s: float
    host: str
    path: str
    headers: Mapping[str, str]
    body: str | None


@dataclass(frozen=True)
class Answer:
    """Path and status of an answered request (0: none came), and seconds that it took."""

    path: str
    status: int
    seconds: float


def send(requests: Sequence[Request]) -> list[Answer]:
    """Send each at its time whether or not others are answered, as long as senders are free."""
    started = time.monotonic()
    with ThreadPoolExecutor(SENDERS) as senders:
        pending = []
        for request in requests:
            time.sleep(max(0.0, started + request.at_s - time.monotonic()))
            pending.append(senders.submit(ask, request))
        return [answer.result() for answer in pending]


def ask(request: Request) -> Answer:
    started = time.monotonic()
    connection = http.client.HTTPConnection(request.host, timeout=10)
    try:
        method = "GET" if request.body is None else "POST"
        connection.request(method, request.path, request.body, dict(request.headers))
        response = connection.getresponse()
        response.read()
        status = response.status
    except OSError:
        status = 0
    finally:
        connection.close()
    return Answer(request.path, status, time.monotonic() - started)


def percentiles(answers: Sequence[Answer], path: str) -> dict[str, float]:
    times = [1000 * answer.seconds for answer in answers if answer.path == path]
    figures = {f"p{q}": round(float(np.percentile(times, q)), 1) for q in (50, 90, 99)}
    return {**figures, "max": round(max(times), 1), "count": len(times)}


def memory(processes: Processes) -> dict[str, list[int]]:
    """Megabytes that each process of worker and backend holds, its children after it."""
    found = {}
    for child in processes.children:
        if child.name in ("worker", "backend"):
            leader = psutil.Process(child.process.pid)
            found[child.name] = [p.memory_info().rss // 2**20 for p in (leader, *leader.children(recursive=True))]
    return found


if __name__ == "__main__":
    main()
