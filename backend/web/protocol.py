"""The routes that Label Studio calls, once for each project: `<backend>/p/<project id>/...`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore
from typing import Any

from flask import Blueprint, Response, current_app, jsonify, request

from backend.errors import BadSetting, TooBusy
from backend.project.folder import UID, ProjectFolder, find_folder
from backend.queue.jobs import describe, take_event
from backend.settings import Settings
from backend.web.predict_call import answer, read_call
from backend.web.predictor import Predictor
from backend.web.webhooks import Decision, decide

logger = logging.getLogger(__name__)

PREDICTIONS_AT_ONCE = 16
"""Calls for predictions that may wait for the model and for images; the server has more threads than these."""

routes = Blueprint("protocol", __name__, url_prefix="/p/<int:project_id>")


@routes.get("/health")
def health(project_id: int) -> Response:
    """Say that this process lives; waits for nothing."""
    return jsonify(status="UP", model_class="MaskAL")


@routes.get("/metrics")
def metrics(project_id: int) -> Response:
    """None are kept here; asked for by those who know label-studio-ml's server."""
    return jsonify({})


@routes.post("/setup")
def setup(project_id: int) -> Response:
    """Name the served version."""
    folder = _folder(project_id, _body().get("project"))
    return jsonify(model_version=_predictor().version(folder))


@routes.post("/predict")
def predict(project_id: int) -> Response:
    """Predictions for tasks: one result each, in order."""
    body = _body()
    call = read_call(body.get("tasks"), body.get("label_config"), body.get("params"))
    folder = _folder(project_id, body.get("project"))
    with _room_for_one():
        return jsonify(results=answer(_predictor(), folder, call))


@routes.post("/webhook")
def webhook(project_id: int) -> tuple[Response, int]:
    """Take an event as a hint; the work is done by a worker."""
    decision = decide(_body())
    if decision is Decision.IGNORE:
        return jsonify(status="ignored"), 200
    folder = _folder(project_id)
    redis = current_app.extensions["maskal_redis"]
    _predictor().read_ahead(folder)
    job = take_event(redis, folder.uid, is_forced=decision is Decision.TRAIN)
    return jsonify(status="ok", job=job), 201


@routes.get("/versions")
def versions(project_id: int) -> Response:
    """Names of the promoted versions, newest first."""
    promoted = [v.name for v in _folder(project_id).registry.versions() if v.promoted]
    return jsonify(versions=promoted[::-1])


@routes.post("/job_status")
def job_status(project_id: int) -> tuple[Response, int]:
    """Status and progress of a job; 410 once it is gone."""
    description = describe(current_app.extensions["maskal_redis"], str(_body().get("job")))
    if description is None:
        return jsonify(error="this job is gone; the project's versions tell what came of it"), 410
    return jsonify(description), 200


@contextmanager
def _room_for_one() -> Iterator[None]:
    """One of PREDICTIONS_AT_ONCE; TooBusy where all wait, so that `/health`, `/setup` and `/webhook` never do."""
    room: BoundedSemaphore = current_app.extensions["maskal_predictions"]
    if not room.acquire(blocking=False):
        raise TooBusy(f"{PREDICTIONS_AT_ONCE} calls for predictions wait already; open the task again a little later")
    try:
        yield
    finally:
        room.release()


def _body() -> dict[str, Any]:
    body = request.get_json(silent=True)
    if not isinstance(body, dict):
        raise BadSetting("the request should carry a JSON object")
    return body


def _folder(project_id: int, uid: Any = None) -> ProjectFolder:
    settings: Settings = current_app.config["MASKAL_SETTINGS"]
    if uid is not None and not (isinstance(uid, str) and UID.fullmatch(uid)):
        raise BadSetting(f"`project` should be <id>.<created>, got {str(uid)[:50]!r}")
    return find_folder(settings.data_dir, project_id, uid)


def _predictor() -> Predictor:
    predictor: Predictor = current_app.extensions["maskal_predictor"]
    return predictor
