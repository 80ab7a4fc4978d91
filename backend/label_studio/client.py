"""Label Studio's API: the only caller of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

from backend.errors import LabelStudioBusy, LabelStudioError, NotFound, WrongToken
from backend.label_studio.addresses import Addresses
from backend.label_studio.facts import TITLE as TITLE  # these are part of this module's interface
from backend.label_studio.facts import Backend as Backend
from backend.label_studio.facts import Project as Project
from backend.label_studio.facts import Task as Task
from backend.label_studio.facts import read_project
from backend.label_studio.task_lists import TaskLists

logger = logging.getLogger(__name__)

UPLOAD_FILES = 100
UPLOAD_BYTES = 100e6
"""Limits of one call with files: Label Studio answers 500 to more files, and holds all of them in memory."""

UPLOAD_S = 300.0

EXAMPLE_CONFIG = '<View><Image name="example" value="$example"/></View>'
EXAMPLE_PATH = "/static/samples/sample.jpg"
"""Where an example of that config lies, which Label Studio begins with LABEL_STUDIO_HOST."""


class LabelStudio(TaskLists):
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
        return read_project(self.request("GET", f"/api/projects/{project_id}"))

    # projects

    def create_project(self, title: str, label_config: str) -> Project:
        """A new project with that labelling config."""
        return read_project(self.request("POST", "/api/projects", json={"title": title, "label_config": label_config}))

    def delete_project(self, project_id: int) -> None:
        """Remove a project with its tasks and annotations; NotFound where there is none."""
        self.request("DELETE", f"/api/projects/{project_id}", timeout=300)

    def projects_named(self, title: str) -> list[int]:
        """Ids of the projects with exactly that title, the newest first."""
        rows = self.request("GET", "/api/projects", params={"title": title, "page_size": 100})["results"]
        return sorted((int(row["id"]) for row in rows if row["title"] == title), reverse=True)

    def update_project(self, project_id: int, **fields: Any) -> None:
        """Change settings of a project."""
        self.request("PATCH", f"/api/projects/{project_id}", json=fields)

    # the queue, annotations and uploads

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
