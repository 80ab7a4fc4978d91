"""Label Studio's API over HTTP, as much of it as a round and a look need, with faults that a test switches on."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import cv2
import numpy as np

from backend.label_studio.facts import OPTIONS
from tests.backend.configs import POLYGONS
from tests.backend.fake_label_studio import FakeLabelStudio
from tests.backend.round_places import Photos

CREATED_AT = "2023-11-14T22:13:20Z"
UID = "1.1700000000"
OLDEST = "2026-01-01T00:00:00Z"


class Server(ThreadingHTTPServer):
    """A project, of which `project` holds what is in it, and others beside it by their numbers.

    is_down     closes every connection without an answer
    slow_s      waits so long before each answer
    fails_every answers 500 to each n-th call
    is_revoked  does not accept the API key
    is_deleted  knows no project
    photo_scale how many times as large the images are as they need to be
    watcher     called with method, path and whether the call has been done, before and after each; what it says True
                to before is not done, and not answered
    """

    daemon_threads = True

    def __init__(self, project: FakeLabelStudio, *others: FakeLabelStudio) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.project = project
        self.projects = {int(one.uid.partition(".")[0]): one for one in (project, *others)}
        self.label_config = POLYGONS
        self.is_down = self.is_revoked = self.is_deleted = False
        self.slow_s, self.fails_every, self.calls = 0.0, 0, 0
        self.photo_scale = 1
        self.closed = threading.Event()
        self.watcher: Callable[[str, str, bool], bool] = lambda method, path, is_done: False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def refusal(self, path: str) -> int | None:
        """The status of an answer that the faults give in place of the right one; 0: none at all."""
        self.calls += 1
        self.closed.wait(self.slow_s)
        if self.is_down:
            return 0
        if self.fails_every and self.calls % self.fails_every == 0:
            return 500
        if self.is_revoked:
            return 401
        return 404 if self.is_deleted and "version" not in path else None

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        """Status and JSON of a call."""
        if path == "/api/version":
            return 200, {"release": "1.23.2"}
        if path == "/api/tasks":
            return 200, _tasks(self.projects[int(query["project"])], query)
        if path == "/api/predictions":
            task = int(query["task"])
            return 200, next(one for one in self.projects.values() if task in one.stored).predictions(task)
        found = re.fullmatch(r"/api/projects/(\d+)(/.*)?", path)
        if found and int(found[1]) in self.projects:
            return self._answer_of(int(found[1]), method, found[2], body)
        return 404, {"detail": f"the fake knows no {method} {path}"}

    def _answer_of(self, number: int, method: str, rest: str | None, body: Any) -> tuple[int, Any]:
        """The answer to a call about one project, by what follows its number."""
        project = self.projects[number]
        if rest is None:
            return _update(project, body) if method == "PATCH" else (200, self._row(number, project))
        if rest == "/sample-task/":
            return 200, {"sample_task": {"example": "/static/samples/sample.jpg"}}
        if rest == "/model-versions" and method == "DELETE":
            return 204, project.forget(body["model_version"])
        if rest == "/model-versions":
            return 200, project.model_versions(number)
        if rest == "/import/predictions":
            return 201, {"created": project.import_predictions(number, json.dumps(body))}
        return 404, {"detail": f"the fake knows no {method} of {rest}"}

    def _row(self, number: int, project: FakeLabelStudio) -> dict[str, Any]:
        tasks, annotated, skipped, predictions = project.project(number).counters
        return {
            "id": number,
            "created_at": CREATED_AT,
            "title": "leaves",
            "label_config": self.label_config,
            "model_version": project.model_version,
            "task_number": tasks,
            "total_annotations_number": annotated,
            "skipped_annotations_number": skipped,
            "total_predictions_number": predictions,
            "task_data_login": "",
            **dict.fromkeys(OPTIONS, 1),
        }


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        refusal = self.server.refusal(parts.path)
        if self.server.watcher(self.command, parts.path, False) or refusal == 0:
            self.close_connection = True
        elif refusal is not None:
            self._send(refusal, b'{"detail": "a fault of the test"}')
        elif parts.path.startswith("/data/upload/"):
            self._send(200, photo(int(parts.path.rpartition("/")[2].partition(".")[0]), self.server.photo_scale))
        else:
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            status, content = self.server.answer(self.command, parts.path, query, json.loads(body or b"null"))
            self.server.watcher(self.command, parts.path, True)
            self._send(status, b"" if content is None else json.dumps(content).encode())

    do_POST = do_PATCH = do_DELETE = do_GET

    def _send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


def _update(project: FakeLabelStudio, fields: dict[str, Any]) -> tuple[int, Any]:
    version = fields["model_version"]
    if version not in project.model_versions(1):
        return 400, {"detail": "Model version does not exist"}
    project.update_project(1, model_version=version)
    return 200, {}


def _tasks(project: FakeLabelStudio, query: dict[str, str]) -> dict[str, Any]:
    asked = json.loads(query.get("query", "{}"))
    items = asked.get("filters", {}).get("items", [])
    meet = any if asked.get("filters", {}).get("conjunction") == "or" else all
    ids = [t for t in project.annotations if not items or meet(_matches(project, t, item) for item in items)]
    if "ordering" in asked:
        ids.sort(key=lambda task: _updated(project, task), reverse=True)
    page, size = int(query["page"]), int(query["page_size"])
    return {"total": len(ids), "tasks": [_task(project, t) for t in ids[(page - 1) * size : page * size]]}


def _updated(project: FakeLabelStudio, task: int) -> str:
    return max([OLDEST, *(row["updated_at"] for row in project.annotations[task])])


def _task(project: FakeLabelStudio, task: int) -> dict[str, Any]:
    rows, predictions = project.annotations[task], project.stored[task]
    row = {"id": task, "data": {"photo": f"/data/upload/{task}.png"}, "is_labeled": bool(rows)}
    return {**row, "annotations": rows, "predictions": predictions, "updated_at": _updated(project, task)}


def _matches(project: FakeLabelStudio, task: int, item: dict[str, Any]) -> bool:
    column, value = item["filter"].removeprefix("filter:tasks:"), item["value"]
    versions = {prediction["model_version"] for prediction in project.stored[task]}
    holds = {
        "total_annotations": bool(project.annotations[task]),
        "cancelled_annotations": False,
        "completed_at": not project.annotations[task],
        "updated_at": _updated(project, task) > str(value),
        "predictions_model_versions": not versions.isdisjoint(value if isinstance(value, list) else ()),
    }[column]
    return holds != item["operator"].startswith("not_")


def photo(task: int, scale: int) -> bytes:
    """The task's image as a PNG, so many times as large."""
    pixels = np.kron(Photos().load(None, task), np.ones((scale, scale, 1), np.uint8))
    return bytes(cv2.imencode(".png", pixels[..., ::-1])[1].tobytes())
