"""What Label Studio tells of projects and tasks, and what it is told of this backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

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


def read_project(row: dict[str, Any]) -> Project:
    """A project as the server lists it."""
    created = datetime.fromisoformat(row["created_at"].replace("Z", "+00:00"))
    counters = tuple(int(row.get(name) or 0) for name in COUNTERS)
    return Project(
        id=row["id"],
        uid=f"{row['id']}.{int(created.timestamp())}",
        title=row["title"] or "",
        label_config=row["label_config"],
        model_version=row["model_version"] or "",
        counters=counters,
        options={name: row[name] for name in OPTIONS},
        image_login=(row["task_data_login"], row["task_data_password"] or "") if row["task_data_login"] else None,
        instruction=row.get("expert_instruction") or "",
    )
