"""Label Studio's lists of tasks, page by page, and the filters of its Data Manager."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any

from backend.errors import LabelStudioBusy, NotFound
from backend.label_studio.calls import Caller
from backend.label_studio.facts import Task

PAGE = 500
LARGE_PAGE = 5000
"""Rows asked for at once, with and without annotations; each page costs the server a count of all."""

READS = 5
LONGEST_CELL = 500
"""Characters of a Data Manager cell, which the server cuts there: some 45 versions."""

LIGHT = {"include": "id,data,is_labeled", "resolve_uri": "false"}


class TaskLists(Caller):
    """A server's tasks, and the predictions that they hold."""

    def newest_change(self, project_id: int) -> str:
        """When a task of the project was last touched, as the server writes it; empty without tasks."""
        page = self._page(project_id, 1, 1, {"include": "id,updated_at", "query": '{"ordering":["-tasks:updated_at"]}'})
        return str(page["tasks"][0]["updated_at"]) if page["tasks"] else ""

    def tasks(self, project_id: int) -> Iterator[Task]:
        """All tasks in the order of their ids, without their annotations."""
        for row in self._rows(project_id, LIGHT, LARGE_PAGE):
            yield _light_task(row)

    def task(self, project_id: int, task_id: int) -> Task:
        """One task with its annotations; NotFound if the project has no such task."""
        row = self.request("GET", f"/api/tasks/{task_id}", params={"resolve_uri": "false"})
        if row["project"] != project_id:
            raise NotFound(f"task {task_id} belongs to project {row['project']}, not to {project_id}")
        return Task(row["id"], row["data"], bool(row["is_labeled"]), row["annotations"])

    def annotated_tasks(self, project_id: int) -> Iterator[Task]:
        """Tasks with at least one submitted annotation, skipped ones included."""
        submitted = _filter("total_annotations", "greater", "Number", 0)
        skipped = _filter("cancelled_annotations", "greater", "Number", 0)
        parameters = {"fields": "all", "include": "id,data,is_labeled,annotations", "expand": "annotations"}
        parameters["resolve_uri"] = "false"
        parameters["query"] = _query(submitted, skipped, conjunction="or")
        for row in self._rows(project_id, parameters, PAGE):
            yield Task(row["id"], row["data"], bool(row["is_labeled"]), row["annotations"])

    def annotated_since(self, project_id: int, since: str | None) -> Iterator[Task]:
        """Annotated tasks that were touched after a moment (as `newest_change` writes it), with their predictions.

        None: all of them.
        """
        parameters = {"fields": "all", "include": "id,data,is_labeled,annotations,predictions", "expand": "annotations"}
        parameters |= {"resolve_uri": "false", "query": _query(*_annotated(since))}
        for row in self._rows(project_id, parameters, PAGE):
            yield Task(row["id"], row["data"], bool(row["is_labeled"]), row["annotations"], row["predictions"])

    def predicted_tasks(self, project_id: int, version: str) -> Iterator[Task]:
        """Tasks with a prediction of that version, each with its predictions of that version."""
        parameters = {"fields": "all", "include": "id,data,is_labeled,predictions", "resolve_uri": "false"}
        for row in self._rows(project_id, {**parameters, "query": _query(_holds(version))}, PAGE):
            own = [p for p in row["predictions"] if p["model_version"] == version]
            if own:
                yield Task(row["id"], row["data"], bool(row["is_labeled"]), predictions=own)

    def tasks_with_version(self, project_id: int, version: str) -> set[int]:
        """Ids of the tasks that hold a prediction of that version."""
        names = self.model_versions(project_id)
        if version not in names:
            return set()
        parameters = {"include": "id", "query": _query(_holds(version))}
        if _is_part_of_another(version, names):
            parameters |= {"fields": "all", "include": "id,predictions_model_versions"}
        rows = self._rows(project_id, parameters, LARGE_PAGE)
        return {row["id"] for row in rows if self._holds_exactly(row, version)}

    def open_tasks_without(self, project_id: int, version: str, limit: int) -> tuple[list[Task], int]:
        """Up to so many of the tasks without annotation and without a prediction of that version, and their number."""
        if _is_part_of_another(version, self.model_versions(project_id)):  # the filter would leave out the others' too
            holding = self.tasks_with_version(project_id, version)
            rows = self._rows(project_id, {**LIGHT, "query": _query(IS_OPEN)}, LARGE_PAGE)
            lacking = [_light_task(row) for row in rows if row["id"] not in holding]
            return lacking[:limit], len(lacking)
        lacks = _filter("predictions_model_versions", "not_contains", "List", [version])
        page = self._page(project_id, 1, limit, {**LIGHT, "query": _query(IS_OPEN, lacks)})
        return [_light_task(row) for row in page["tasks"]], int(page["total"])

    def predictions_of(self, project_id: int, version: str, limit: int) -> list[int]:
        """Ids of up to so many predictions of a version; none only if there are none."""
        if _is_part_of_another(version, self.model_versions(project_id)):  # a page may then hold the others' tasks only
            tasks = sorted(self.tasks_with_version(project_id, version))[:limit]
            rows = [prediction for task in tasks for prediction in self.predictions(task)]
        else:
            parameters = {"fields": "all", "include": "id,predictions", "query": _query(_holds(version))}
            page = self._page(project_id, 1, limit, parameters)
            rows = [prediction for row in page["tasks"] for prediction in row["predictions"]]
        return [int(row["id"]) for row in rows if row["model_version"] == version]

    def count_open(self, project_id: int, version: str | None = None) -> int:
        """Number of tasks without a submitted annotation, or of those among them with a prediction of that version."""
        if version is not None and _is_part_of_another(version, self.model_versions(project_id)):
            is_open = self._rows(project_id, {"include": "id", "query": _query(IS_OPEN)}, LARGE_PAGE)
            return len({row["id"] for row in is_open} & self.tasks_with_version(project_id, version))
        return self._count(project_id, IS_OPEN, *([] if version is None else [_holds(version)]))

    def count_annotated(self, project_id: int, since: str | None = None) -> int:
        """Number of tasks with a submitted annotation, or of those touched after a moment that `newest_change` gave."""
        return self._count(project_id, *_annotated(since))

    def any_task(self, project_id: int) -> Task | None:
        """The first task, None if there is none."""
        page = self._page(project_id, 1, 1, LIGHT)
        return next((_light_task(row) for row in page["tasks"]), None)

    def predictions(self, task_id: int) -> list[dict[str, Any]]:
        """All predictions of one task."""
        return list(self.request("GET", "/api/predictions", params={"task": task_id}))

    def model_versions(self, project_id: int) -> dict[str, int]:
        """Number of predictions per version."""
        return dict(self.request("GET", f"/api/projects/{project_id}/model-versions"))

    def _holds_exactly(self, row: dict[str, Any], version: str) -> bool:
        """Whether a listed task holds a prediction of exactly that version; asked for where its cell may be cut."""
        cell = row.get("predictions_model_versions", version)
        if len(cell) < LONGEST_CELL:
            return version in _split(cell)
        return any(prediction["model_version"] == version for prediction in self.predictions(row["id"]))

    def _count(self, project_id: int, *filters: dict[str, Any]) -> int:
        return int(self._page(project_id, 1, 1, {"include": "id", "query": _query(*filters)})["total"])

    def _rows(self, project_id: int, parameters: dict[str, Any], page_size: int) -> list[dict[str, Any]]:
        """All rows; read again where tasks came or went between two pages, which would hide others."""
        for _ in range(READS):
            first = self._page(project_id, 1, page_size, parameters)
            rows, total = list(first["tasks"]), first["total"]
            for page in range(2, math.ceil(total / page_size) + 1):
                answer = self._page(project_id, page, page_size, parameters)
                rows += answer["tasks"]
                if answer["total"] != total:
                    break
            if len(rows) == total:
                return rows
        raise LabelStudioBusy(
            f"the tasks of project {project_id} change faster than they can be read; tried again later"
        )

    def _page(self, project_id: int, page: int, page_size: int, parameters: dict[str, Any]) -> dict[str, Any]:
        query = {"project": project_id, "page": page, "page_size": page_size, **parameters}
        return dict(self.request("GET", "/api/tasks", params=query, timeout=120))


def _light_task(row: dict[str, Any]) -> Task:
    return Task(row["id"], row["data"], bool(row["is_labeled"]))


def _query(*filters: dict[str, Any], conjunction: str = "and") -> str:
    return json.dumps({"filters": {"conjunction": conjunction, "items": filters}})


def _filter(column: str, operator: str, kind: str, value: Any) -> dict[str, Any]:
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": kind, "value": value}


IS_OPEN = _filter("completed_at", "empty", "Datetime", True)


def _annotated(since: str | None) -> list[dict[str, Any]]:
    """The filters for tasks with a submitted annotation that were touched after a moment, if one is given."""
    touched = [] if since is None else [_filter("updated_at", "greater", "Datetime", since)]
    return [_filter("total_annotations", "greater", "Number", 0), *touched]


def is_task(task_id: int) -> dict[str, Any]:
    """The filter for one task."""
    return _filter("id", "equal", "Number", task_id)


def _holds(version: str) -> dict[str, Any]:
    """Tasks with a prediction of a version; a list, as the server takes a text for a list of letters."""
    return _filter("predictions_model_versions", "contains", "List", [version])


def _is_part_of_another(version: str, names: Iterable[str]) -> bool:
    """Whether a filter for that version finds others too, as Label Studio looks for parts of names."""
    return any(version in name for name in names if name != version)


def _split(versions: str | list[str] | None) -> list[str]:
    """Version names of a Data Manager cell, which SQLite joins with commas and PostgreSQL lists."""
    parts = versions.split(",") if isinstance(versions, str) else versions or []
    return [str(part).strip() for part in parts]
