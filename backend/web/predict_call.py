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
    """A call's parts from JSON; BadSetting if they are something else. A single task may stand alone."""
    listed = [tasks] if isinstance(tasks, dict) else tasks
    if not isinstance(listed, list):
        raise BadSetting(f"`tasks` should be a list of tasks, got a {type(tasks).__name__}")
    params, label_config = params or {}, label_config or ""
    if not isinstance(params, dict):
        raise BadSetting(f"`params` should be an object, got a {type(params).__name__}")
    if not isinstance(label_config, str):
        raise BadSetting(f"`label_config` should be a text, got a {type(label_config).__name__}")
    wanted = tuple(map(_task, listed))
    login = (str(params["login"]), str(params.get("password") or "")) if params.get("login") else None
    context = params.get("context")
    return PredictCall(wanted, label_config, login, context if isinstance(context, dict) else {})


def _task(sent: Any) -> Task:
    try:
        number, data = int(sent["id"]), sent.get("data") or {}
        if not isinstance(data, dict):
            raise TypeError(f"wanted an object, got a {type(data).__name__}")
    except (KeyError, TypeError, ValueError) as err:
        raise BadSetting("`tasks` should be objects with a number as `id` and an object as `data`") from err
    return Task(number, data, False)


def answer(predictor: Predictor, folder: ProjectFolder, call: PredictCall) -> list[Result]:
    """One result for each task, in order: what is in the box or under the click just drawn, or the task's prediction.

    Where a drawn region was taken away Label Studio asks with an empty list: not for the task's prediction.
    """
    if "result" in call.context:
        return [predictor.assist(folder, task, call, call.context) for task in call.tasks]
    return predictor.predict(folder, call.tasks, call)
