"""Seconds of a project's page at several numbers of tasks: `python -m tests.benchmarks.page --tasks 20,20000`.

The app answers in this process; nothing of it is kept from one answer to the next. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

from backend.project.credentials import BASIC_USER, load_credentials
from backend.rounds.receipt import Line, Receipt
from backend.settings import Settings
from backend.web.app import create_app
from tests.backend.shown_project import ShownProject

PATHS = {"page": "/p/3/", "fragment": "/p/3/now", "projects": "/"}


def measure(tasks: int, times: int) -> dict[str, object]:
    """Median and largest seconds of each path, and the size of the page, for a project of so many tasks."""
    with tempfile.TemporaryDirectory() as folder:
        project = ShownProject(Path(folder))
        project.make_versions(tasks)
        project.look(tasks=tasks, annotated=tasks // 2)
        lines = [Line(task, task, "maskal-r1", True, 10.0, 1, "2026-01-01T00:00:00Z") for task in range(tasks // 2)]
        Receipt(project.folder.path).add(lines, "2026-01-01T00:00:00Z")
        settings = Settings(data_dir=Path(folder), redis_url="redis://127.0.0.1:9/0")
        client = create_app(settings).test_client()
        login = (BASIC_USER, load_credentials(settings).basic_password)
        found: dict[str, object] = {"tasks": tasks}
        for name, path in PATHS.items():
            seconds = []
            for _ in range(times):
                started = time.perf_counter()
                answer = client.get(path, auth=login)
                seconds.append(time.perf_counter() - started)
                assert answer.status_code == 200
            found[name] = {
                "median_s": round(statistics.median(seconds), 4),
                "largest_s": round(max(seconds), 4),
                "kilobytes": round(len(answer.data) / 1e3, 1),
            }
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", default="20,20000", help="numbers of tasks, comma-separated")
    parser.add_argument("--times", type=int, default=9, help="how often each page is asked for")
    options = parser.parse_args()
    measured = [measure(int(tasks), options.times) for tasks in options.tasks.split(",")]
    print(json.dumps({"python": platform.python_version(), "measured": measured}, indent=2))


if __name__ == "__main__":
    main()
