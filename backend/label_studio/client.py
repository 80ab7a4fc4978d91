"""Label Studio's API: the only caller of it."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from backend.errors import LabelStudioBusy, LabelStudioError, NotFound, WrongToken
from backend.label_studio.addresses import Addresses
from backend.label_studio.calls import Caller

logger = logging.getLogger(__name__)

PAGE = 500
LARGE_PAGE = 5000
"""Rows asked for at once, with and without annotations; each page costs the server a count of all."""

UPLOAD_FILES = 100
UPLOAD_BYTES = 100e6
"""Limits of one call with files: Label Studio answers 500 to more files, and holds all of them in memory."""

UPLOAD_S = 300.0

READS = 5
LONGEST_CELL = 500
"""Characters of a Data Manager cell, which the server cuts there: some 45 versions."""

LIGHT = {"include": "id,data,is_labeled", "resolve_uri": "false"}

COUNTERS = (
    "task_number",
    "total_annotations_number",
    "skipped_annotations_number",
    "total_predictions_number",
)
"""What a project tells about its tasks; the first is their number."""

OPTIONS = (
    "sampling",
    "maximum_annotations",
    "show_overlap_first",
    "show_collab_predictions",
    "reveal_preannotations_interactively",
)
"""Settings of a project that decide what its queue serves and what annotators see."""

EXAMPLE_CONFIG = '<View><Image name="example" value="$example"/></View>'
EXAMPLE_PATH = "/static/samples/sample.jpg"
"""Where an example of that config lies, which Label Studio begins with LABEL_STUDIO_HOST."""

TITLE = "MaskAL"
"""Title of the ML backend in every project: fixed, and never the name of a version."""


@dataclass(frozen=True)
class Project:
    """A project as the server describes it. uid is `<id>.<created timestamp>`, as in `/setup`.

    counters    COUNTERS, in their order
    options     OPTIONS, by name
    image_login name and password for task data, where the project has them
    instruction what annotators are told (HTML)
    """

    id: int
    uid: str
    title: str
    label_config: str
    model_version: str
    counters: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)
    image_login: tuple[str, str] | None = None
    instruction: str = ""


@dataclass(frozen=True, eq=False, slots=True)
class Task:
    """A task: its data and, where asked for, its annotations and predictions as the server lists them."""

    id: int
    data: dict[str, Any]
    is_labeled: bool
    annotations: Sequence[dict[str, Any]] = ()
    predictions: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True)
class Backend:
    """This backend as a project lists it; `is_interactive`: asked for outlines of what smart tools draw."""

    project_id: int
    url: str
    user: str
    password: str = field(repr=False)
    is_interactive: bool = False

    def fields(self) -> dict[str, Any]:
        """What the server wants to be told."""
        auth = {"auth_method": "BASIC_AUTH", "basic_auth_user": self.user, "basic_auth_pass": self.password}
        facts = {"project": self.project_id, "url": self.url, "title": TITLE, "is_interactive": self.is_interactive}
        return {**facts, **auth}


class LabelStudio(Caller):
    """One Label Studio server, seen with one API key.

    `public_url` is its address as its users and its tasks know it; None: what it says itself.
    """

    def __init__(self, url: str, api_key: str, *, public_url: str | None = None, **options: Any) -> None:
        super().__init__(url, api_key, **options)
        self.public_url = public_url

    # the server

    def version(self) -> str:
        """The server's release; needs no key."""
        return str(self.request("GET", "/api/version", auth=None)["release"])

    def whoami(self) -> dict[str, Any]:
        """The user that the API key belongs to."""
        return dict(self.request("GET", "/api/current-user/whoami"))

    def project(self, project_id: int) -> Project:
        """One project; NotFound if it was deleted or belongs to another organisation."""
        return _project(self.request("GET", f"/api/projects/{project_id}"))

    # projects

    def create_project(self, title: str, label_config: str) -> Project:
        """A new project with that labelling config."""
        return _project(self.request("POST", "/api/projects", json={"title": title, "label_config": label_config}))

    def projects_named(self, title: str) -> list[int]:
        """Ids of the projects with exactly that title, the newest first."""
        rows = self.request("GET", "/api/projects", params={"title": title, "page_size": 100})["results"]
        return sorted((int(row["id"]) for row in rows if row["title"] == title), reverse=True)

    def update_project(self, project_id: int, **fields: Any) -> None:
        """Change settings of a project."""
        self.request("PATCH", f"/api/projects/{project_id}", json=fields)

    def newest_change(self, project_id: int) -> str:
        """When a task of the project was last touched, as the server writes it; empty without tasks."""
        page = self._page(project_id, 1, 1, {"include": "id,updated_at", "query": '{"ordering":["-tasks:updated_at"]}'})
        return str(page["tasks"][0]["updated_at"]) if page["tasks"] else ""

    # tasks and annotations

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
        filters = [_filter("total_annotations", "greater", "Number", 0)]
        filters += [] if since is None else [_filter("updated_at", "greater", "Datetime", since)]
        parameters = {"fields": "all", "include": "id,data,is_labeled,annotations,predictions", "expand": "annotations"}
        parameters |= {"resolve_uri": "false", "query": _query(*filters)}
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

    def count_changed(self, project_id: int, since: str) -> int:
        """Number of tasks touched after a moment that `newest_change` gave: annotated, edited, skipped or imported."""
        return self._count(project_id, _filter("updated_at", "greater", "Datetime", since))

    def any_task(self, project_id: int) -> Task | None:
        """The first task, None if there is none."""
        page = self._page(project_id, 1, 1, LIGHT)
        return next((_light_task(row) for row in page["tasks"]), None)

    def next_task(self, project_id: int) -> Task | None:
        """The task that the labelling queue hands to this user now, or None when it is empty."""
        try:
            row = self.request("GET", f"/api/projects/{project_id}/next")
        except NotFound:
            return None
        return Task(row["id"], row["data"], bool(row["is_labeled"]), row.get("annotations", []))

    def annotate(self, task_id: int, result: list[dict[str, Any]], *, lead_time_s: float = 1.0) -> int:
        """Submit an annotation and return its id."""
        body = {"result": result, "lead_time": lead_time_s}
        return int(self.request("POST", f"/api/tasks/{task_id}/annotations", json=body, retry=False)["id"])

    def import_tasks(self, project_id: int, tasks: Sequence[dict[str, Any]]) -> list[int]:
        """Add tasks ({"data": ..., "annotations": [...]}) and return their ids."""
        answer = self.request(
            "POST",
            f"/api/projects/{project_id}/import?return_task_ids=true",
            json=list(tasks),
            retry=False,
            timeout=UPLOAD_S,
        )
        return [int(task) for task in answer["task_ids"]]

    def upload_image(self, project_id: int, name: str, content: bytes) -> str:
        """Store an image file on the server without a task; returns its address for a task's data."""
        return self.upload_images(project_id, [(name, content)])[0]

    def upload_images(self, project_id: int, images: Sequence[tuple[str, bytes]]) -> list[str]:
        """Store image files (name, content) in one call; returns their addresses in the same order.

        Each has a form field of its own, as Label Studio keeps only the last file of a field.
        """
        files = {f"file{place}": image for place, image in enumerate(images)}
        path = f"/api/projects/{project_id}/import?commit_to_project=false"
        ids = self.request("POST", path, files=files, retry=False, timeout=UPLOAD_S)["file_upload_ids"]
        rows = self.request("GET", f"/api/projects/{project_id}/file-uploads", params={"ids": json.dumps(ids)})
        places = {row["id"]: str(row["file"]) for row in rows}
        addresses = self.addresses(project_id)
        return [addresses.in_task("/data/" + places[upload].lstrip("/")) for upload in ids if upload in places]

    # predictions and versions

    def import_predictions(self, project_id: int, predictions: str | Sequence[dict[str, Any]]) -> int:
        """Insert predictions (a list, or its JSON) in one call and return their number.

        Never repeated by itself, as it may have arrived.
        """
        path = f"/api/projects/{project_id}/import/predictions"
        body = predictions if isinstance(predictions, str) else json.dumps(list(predictions))
        headers = {"Content-Type": "application/json"}
        options: dict[str, Any] = {"content": body, "headers": headers, "timeout": 300}
        return int(self.request("POST", path, retry=False, **options)["created"])

    def predictions(self, task_id: int) -> list[dict[str, Any]]:
        """All predictions of one task."""
        return list(self.request("GET", "/api/predictions", params={"task": task_id}))

    def model_versions(self, project_id: int) -> dict[str, int]:
        """Number of predictions per version."""
        return dict(self.request("GET", f"/api/projects/{project_id}/model-versions"))

    def rescore(self, prediction_id: int, score: float) -> None:
        """Give a prediction another score, and with it another place in the queue."""
        self.request("PATCH", f"/api/predictions/{prediction_id}", json={"score": score})

    def delete_prediction(self, prediction_id: int) -> None:
        """Remove one prediction."""
        self.request("DELETE", f"/api/predictions/{prediction_id}")

    def delete_version(self, project_id: int, version: str) -> None:
        """Remove all predictions of a version."""
        self.request(
            "DELETE", f"/api/projects/{project_id}/model-versions", json={"model_version": version}, timeout=300
        )

    # ML backends and webhooks

    def backends(self, project_id: int) -> list[dict[str, Any]]:
        """The ML backends of a project."""
        return list(self.request("GET", "/api/ml", params={"project": project_id}))

    def offer_backend(self, project_id: int, url: str) -> str:
        """What Label Studio says of a backend whose password is wrong: it tries to reach it, and never stores it."""
        try:
            row = self.add_backend(Backend(project_id, url, "maskal-doctor", "wrong on purpose"))
        except LabelStudioBusy:
            raise
        except LabelStudioError as err:
            return str(err)
        self.delete_backend(row["id"])
        return "accepted although the password is wrong"

    def offer_webhook(self, project_id: int, url: str) -> str:
        """What Label Studio says of a webhook with an unknown action: it checks the address, and never stores it."""
        body = {"project": project_id, "url": url, "send_for_all_actions": False, "actions": ["NONE_OF_THOSE"]}
        try:
            row = self.request("POST", "/api/webhooks", json=body, retry=False)
        except LabelStudioBusy:
            raise
        except LabelStudioError as err:
            return str(err)
        self.delete_webhook(row["id"])
        return "accepted although the action is unknown"

    def add_backend(self, backend: Backend) -> dict[str, Any]:
        """Add this backend to a project; Label Studio calls it at once."""
        return dict(self.request("POST", "/api/ml", json=backend.fields(), retry=False))

    def update_backend(self, backend_id: int, backend: Backend) -> None:
        """Write all of a backend's fields again (the server needs them together)."""
        self.request("PATCH", f"/api/ml/{backend_id}", json=backend.fields())

    def delete_backend(self, backend_id: int) -> None:
        """Remove a backend from its project."""
        self.request("DELETE", f"/api/ml/{backend_id}")

    def webhooks(self, project_id: int) -> list[dict[str, Any]]:
        """The webhooks of a project."""
        return list(self.request("GET", "/api/webhooks", params={"project": project_id}))

    def add_webhook(self, project_id: int, url: str, headers: dict[str, str]) -> None:
        """Add a webhook for all actions."""
        body = {
            "project": project_id,
            "url": url,
            "headers": headers,
            "send_payload": True,
            "send_for_all_actions": True,
        }
        self.request("POST", "/api/webhooks", json=body, retry=False)

    def update_webhook(self, webhook_id: int, **fields: Any) -> None:
        """Change fields of a webhook."""
        self.request("PATCH", f"/api/webhooks/{webhook_id}", json=fields)

    def delete_webhook(self, webhook_id: int) -> None:
        """Remove a webhook."""
        self.request("DELETE", f"/api/webhooks/{webhook_id}")

    # images

    def addresses(self, project_id: int) -> Addresses:
        """Which addresses in tasks are the server's own; its public one is asked for once, by any of its projects."""
        if self.public_url is None:
            self.public_url = self._told_address(project_id)
        return Addresses(self.url, self.public_url)

    def _told_address(self, project_id: int) -> str:
        """LABEL_STUDIO_HOST as the server was started with, empty without; it stands before its own examples."""
        path, body = f"/api/projects/{project_id}/sample-task/", {"label_config": EXAMPLE_CONFIG}
        try:
            example = str(self.request("POST", path, json=body)["sample_task"]["example"])
        except (LabelStudioBusy, WrongToken):
            raise
        except (LabelStudioError, KeyError, TypeError):
            logger.warning("Label Studio does not tell its public address; set LABEL_STUDIO_PUBLIC_URL if it has one")
            return ""
        is_told = example.startswith(("http://", "https://")) and example.endswith(EXAMPLE_PATH)
        return example.removesuffix(EXAMPLE_PATH) if is_told else ""

    def _holds_exactly(self, row: dict[str, Any], version: str) -> bool:
        """Whether a listed task holds a prediction of exactly that version; asked for where its cell may be cut."""
        cell = row.get("predictions_model_versions", version)
        if len(cell) < LONGEST_CELL:
            return version in _split(cell)
        return any(prediction["model_version"] == version for prediction in self.predictions(row["id"]))

    # paging

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


def _project(row: dict[str, Any]) -> Project:
    created = datetime.fromisoformat(row["created_at"].replace("Z", "+00:00"))
    counters = tuple(int(row.get(name) or 0) for name in COUNTERS)
    return Project(
        id=row["id"],
        uid=f"{row['id']}.{int(created.timestamp())}",
        title=row["title"],
        label_config=row["label_config"],
        model_version=row["model_version"] or "",
        counters=counters,
        options={name: row[name] for name in OPTIONS},
        image_login=(row["task_data_login"], row["task_data_password"] or "") if row["task_data_login"] else None,
        instruction=row.get("expert_instruction") or "",
    )


def _query(*filters: dict[str, Any], conjunction: str = "and") -> str:
    return json.dumps({"filters": {"conjunction": conjunction, "items": filters}})


def _filter(column: str, operator: str, kind: str, value: Any) -> dict[str, Any]:
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": kind, "value": value}


IS_OPEN = _filter("completed_at", "empty", "Datetime", True)


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
