"""One call for predictions, as Label Studio makes it: what it asks, and the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backend.errors import BadSetting
from backend.label_studio.client import Task
from backend.project.folder import ProjectFolder
from backend.web.predictor import Predictor, Result


@dataclass(frozen=True)
class PredictCall:
    """What a call to `/predict` tells: the tasks, the project's labelling config, and how its images are reached.

    context    what an annotator has just drawn with a smart tool, else empty
    """

    tasks: tuple[Task, ...]
    label_config: str
    image_login: tuple[str, str] | None
    context: Mapping[str, Any]


def read_call(tasks: Any, label_config: Any, params: Any) -> PredictCall:
    """A call's parts from JSON; BadSetting if the tasks are none. A single task may stand alone."""
    listed = [tasks] if isinstance(tasks, dict) else tasks
    if not isinstance(listed, list):
        raise BadSetting(f"`tasks` should be a list of tasks, got a {type(tasks).__name__}")
    wanted = tuple(Task(int(task["id"]), task.get("data") or {}, False) for task in listed)
    params = params or {}
    login = (str(params["login"]), str(params.get("password") or "")) if params.get("login") else None
    context = params.get("context")
    return PredictCall(wanted, label_config or "", login, context if isinstance(context, dict) else {})


def answer(predictor: Predictor, folder: ProjectFolder, call: PredictCall) -> list[Result]:
    """One result for each task, in order: what is in the box or under the click just drawn, or the task's prediction.

    Where a drawn region was taken away Label Studio asks with an empty list: not for the task's prediction.
    """
    if "result" in call.context:
        return [predictor.assist(folder, task, call, call.context) for task in call.tasks]
    return predictor.predict(folder, call.tasks, call)
