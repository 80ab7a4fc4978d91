"""Many projects on one backend: memory, calls to Label Studio while nobody annotates, and how soon one is served.

    python -m tests.benchmarks.projects --json projects.json

Takes about eight minutes. Starts Redis, `maskal worker` and `maskal serve` with the fake engine and a Label Studio in
this process, in which each project has its first version already. Measures how long it takes from a submit to the
version that has learned from it, while the other projects rest, and while the worker ranks one with many images.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import psutil

from backend.demo.stack import start_backend
from backend.project.config import ProjectConfig
from backend.project.credentials import SECRET_HEADER, load_credentials
from backend.project.folder import ProjectFolder, connect_folder
from backend.rounds.folder import start_round, unfinished
from backend.rounds.standing import has_standing
from backend.rounds.steps import run as run_round
from backend.settings import Settings
from backend.system.processes import Processes, free_port
from backend.system.redis_server import start_redis
from backend.workers.clock import RECONCILE_S
from model.files import write_json
from tests.backend.fake_label_studio import FakeLabelStudio, place_of
from tests.backend.round_places import quiet
from tests.benchmarks.webhooks import memory
from tests.e2e.waiting import wait_for
from tests.faults.label_studio import Server

TASKS, ANNOTATED, BATCH = 40, 8, 4
FIRST_OF = 100_000
"""The first task of project n is n times this."""

SMALL = {"engine": "fake", "initial_datasize": ANNOTATED, "pool_size": BATCH, "mcd_iterations": 3}
LARGE_PASSES = 20
SUBMITS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--projects", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=120, help="for which nobody annotates")
    parser.add_argument("--large", type=int, default=6000, help="images of the project with many")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Processes() as processes:
        run = Run(Path(folder), processes, options.projects, options.large)
        report = run.measure(options.seconds)
    report |= {"projects": options.projects, "cores": os.cpu_count(), "load": os.getloadavg()}
    print(json.dumps(report, indent=2))
    if options.json is not None:
        write_json(options.json, report)


class Run:
    """Small projects with the numbers 1 to `projects`, and a large one with the next number."""

    def __init__(self, folder: Path, processes: Processes, projects: int, large: int) -> None:
        self.folder, self.processes, self.large = folder, processes, projects + 1
        small = [project_of(number, TASKS) for number in range(1, projects + 1)]
        self.server = Server(*small, project_of(self.large, large))
        self.calls: Counter[str] = Counter()
        self.server.watcher = self._count
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.settings = self._settings()
        self.folders = {number: self._connect(number) for number in range(1, projects + 1)}
        for number, connected in self.folders.items():
            run_round(place_of(connected, self.server.projects[number]), start_round(connected, 0), quiet)

    def measure(self, seconds: float) -> dict[str, object]:
        """The figures, one after the other."""
        assert all(self._is_served(n, "maskal-r1") for n in self.folders)
        start_backend(self.processes, self.settings, self.folder)
        report: dict[str, object] = {"idle": self._idle(seconds)}
        report["submit_to_version_s"] = [self._submit(1 + n % len(self.folders)) for n in range(SUBMITS)]
        report["beside_a_large_one"] = self._beside_a_large_one()
        return report

    def _idle(self, seconds: float) -> dict[str, object]:
        wait_for(lambda: all(map(has_standing, self.folders.values())), "a first look at each project", 300)
        time.sleep(RECONCILE_S)
        before, begun = Counter(self.calls), cpu_seconds(self.processes)
        time.sleep(seconds)
        made = {name: round(60 * n / seconds, 1) for name, n in (Counter(self.calls) - before).items()}
        spent = round(60 * (cpu_seconds(self.processes) - begun) / seconds, 1)
        facts = {"calls_a_minute": made, "calls_a_minute_in_all": round(sum(made.values()), 1)}
        return {**facts, "cpu_s_a_minute": spent, "memory_mb": memory(self.processes)}

    def _submit(self, number: int, while_it: Callable[[], bool] = lambda: True) -> float:
        """Seconds from a submit in a project until its queue follows the version that has learned from it."""
        project = self.server.projects[number]
        version = project.model_version
        for task in [task for task, rows in project.annotations.items() if not rows][:BATCH]:
            project.annotate(task)
        started = time.monotonic()
        self._tell(number)
        wait_for(lambda: project.model_version != version, f"project {number}'s next version", 600)
        assert while_it(), "the large project has ended its ranking; give more images with --large"
        return round(time.monotonic() - started, 1)

    def _beside_a_large_one(self) -> dict[str, object]:
        folder = self._connect(self.large, mcd_iterations=LARGE_PASSES)
        started = time.monotonic()
        self._tell(self.large)
        wait_for(lambda: self._is_ranking(folder), "the large project's ranking", 300)
        waits = [self._submit(n, lambda: self._is_ranking(folder)) for n in self._first_folders()]
        wait_for(lambda: self._is_served(self.large, "maskal-r1"), "the large project's version", 1800)
        spent = time.monotonic() - started
        held = self.server.projects[self.large].model_versions(self.large)
        tasks = len(self.server.projects[self.large].annotations)
        assert held == {"maskal-r1": tasks - ANNOTATED}, f"lost or doubled: {held}"
        return {"submit_to_version_s": waits, "images": tasks, "large_one_s": round(spent, 1)}

    def _first_folders(self) -> Sequence[int]:
        return list(self.folders)[:2]

    def _is_ranking(self, folder: ProjectFolder) -> bool:
        current = unfinished(folder)
        return current is not None and current.scores.exists()

    def _is_served(self, number: int, version: str) -> bool:
        return self.server.projects[number].model_version == version

    def _connect(self, number: int, **settings: object) -> ProjectFolder:
        folder = connect_folder(self.settings.data_dir, self.server.projects[number].uid)
        folder.store_config(ProjectConfig.model_validate({**SMALL, **settings}))
        return folder

    def _tell(self, number: int) -> None:
        """Send the webhook of a submit."""
        secret = load_credentials(self.settings).webhook_secret
        body = {"action": "ANNOTATION_CREATED", "project": {"id": number}}
        url = f"{self.settings.backend_url}/p/{number}/webhook"
        httpx.post(url, json=body, headers={SECRET_HEADER: secret}, timeout=10).raise_for_status()

    def _count(self, method: str, path: str, is_done: bool) -> bool:
        self.calls[f"{method} {re.sub(r'[0-9]+', 'N', path)}"] += not is_done
        return False

    def _settings(self) -> Settings:
        port = free_port()
        return Settings(
            data_dir=self.folder / "data",
            redis_url=start_redis(self.processes, self.folder / "redis", self.folder / "redis.log"),
            port=port,
            backend_url=f"http://127.0.0.1:{port}",
            label_studio_url=self.server.url,
            label_studio_api_key="the-key",
        )


def project_of(number: int, tasks: int) -> FakeLabelStudio:
    return FakeLabelStudio(f"{number}.1700000000", tasks, ANNOTATED, first=number * FIRST_OF)


def cpu_seconds(processes: Processes) -> float:
    """Processor time of worker and backend so far, their living and ended children included."""
    spent = 0.0
    for child in processes.children:
        if child.name in ("worker", "backend"):
            leader = psutil.Process(child.process.pid)
            for process in (leader, *leader.children(recursive=True)):
                times = process.cpu_times()
                spent += times.user + times.system + times.children_user + times.children_system
    return spent


if __name__ == "__main__":
    main()
