"""Label Studio in memory: as much of its API's client as a round, a publish and a look for new tasks call."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import count
from typing import Any, cast

from backend.errors import NotFound
from backend.label_studio.addresses import Addresses
from backend.label_studio.client import Project, Task
from backend.label_studio.labels import parse_label_config
from backend.project.folder import ProjectFolder
from backend.project.workplace import Workplace
from tests.backend.configs import POLYGONS
from tests.backend.round_places import Photos, region_of


def place_of(folder: ProjectFolder, client: FakeLabelStudio, images: Any = None) -> Workplace:
    """The workplace of a connected project in that Label Studio."""
    labels = parse_label_config(POLYGONS)
    return Workplace(folder, cast(Any, client), images or cast(Any, Photos()), POLYGONS, labels, folder.config())


class FakeLabelStudio:
    """One project with so many tasks from `first` on, some of them annotated with a leaf or a spot."""

    def __init__(self, uid: str, tasks: int, annotated: int, *, first: int = 1) -> None:
        self.uid, self.model_version = uid, ""
        self.annotations: dict[int, list[dict[str, Any]]] = {task: [] for task in range(first, first + tasks)}
        self.stored: dict[int, list[dict[str, Any]]] = {task: [] for task in self.annotations}
        self.changes = 0
        self.ids = count(1)
        self.rescored: list[int] = []
        for task in range(first, first + annotated):
            self.annotate(task)

    def annotate(self, task: int, *others: dict[str, Any]) -> None:
        """Submit the task's leaf or spot, and other regions beside it."""
        self.changes += 1
        at = f"2026-01-01T00:00:{self.changes:02d}Z"
        self.annotations[task] = [{"id": task, "result": [region_of(task), *others], "updated_at": at}]

    def project(self, project_id: int) -> Project:
        annotated = sum(map(bool, self.annotations.values()))
        predictions = sum(map(len, self.stored.values()))
        counters = (len(self.annotations), annotated, 0, predictions)
        return Project(project_id, self.uid, "leaves", POLYGONS, self.model_version, counters)

    def update_project(self, project_id: int, *, model_version: str) -> None:
        self.model_version = model_version

    def addresses(self, project_id: int) -> Addresses:
        return Addresses("http://127.0.0.1:8080")

    def newest_change(self, project_id: int) -> str:
        return f"2026-01-01T00:00:{self.changes:02d}Z" if self.annotations else ""

    def count_annotated(self, project_id: int, since: str | None = None) -> int:
        return sum(1 for _ in self.annotated_since(project_id, since))

    def tasks(self, project_id: int) -> Iterator[Task]:
        for task, rows in self.annotations.items():
            yield Task(task, {"photo": f"{task}.png"}, bool(rows), rows)

    def task(self, project_id: int, task_id: int) -> Task:
        if task_id not in self.annotations:
            raise NotFound(f"no task {task_id}")
        return Task(task_id, {"photo": f"{task_id}.png"}, bool(self.annotations[task_id]), self.annotations[task_id])

    def annotated_tasks(self, project_id: int) -> Iterator[Task]:
        return (task for task in self.tasks(project_id) if task.annotations)

    def annotated_since(self, project_id: int, since: str | None) -> Iterator[Task]:
        for task in self.annotated_tasks(project_id):
            if any(since is None or a["updated_at"] > since for a in task.annotations):
                yield Task(task.id, task.data, True, task.annotations, self.stored[task.id])

    def open_tasks_without(self, project_id: int, version: str, limit: int) -> tuple[list[Task], int]:
        lacking = [t for t in self.tasks(project_id) if not t.is_labeled and version not in self._versions(t.id)]
        return lacking[:limit], len(lacking)

    def predictions(self, task_id: int) -> list[dict[str, Any]]:
        return self.stored[task_id]

    def model_versions(self, project_id: int) -> dict[str, int]:
        return Counter(version for task in self.stored for version in self._versions(task))

    def forget(self, version: str) -> None:
        for task, rows in self.stored.items():
            self.stored[task] = [row for row in rows if row["model_version"] != version]

    def tasks_with_version(self, project_id: int, version: str) -> set[int]:
        return {task for task in self.stored if version in self._versions(task)}

    def import_predictions(self, project_id: int, predictions: str) -> int:
        rows = json.loads(predictions)
        for row in rows:
            self.stored[row["task"]].append({"id": next(self.ids), **row})
        return len(rows)

    def predicted_tasks(self, project_id: int, version: str) -> Iterator[Task]:
        for task, predictions in self.stored.items():
            own = [p for p in predictions if p["model_version"] == version]
            if own:
                yield Task(task, {"photo": f"{task}.png"}, bool(self.annotations[task]), predictions=own)

    def rescore(self, prediction_id: int, score: float) -> None:
        (found,) = (p for rows in self.stored.values() for p in rows if p.get("id") == prediction_id)
        found["score"] = score
        self.rescored.append(prediction_id)

    def _versions(self, task: int) -> list[str]:
        return [prediction["model_version"] for prediction in self.stored[task]]
