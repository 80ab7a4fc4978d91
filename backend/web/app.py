"""The web app: authentication, error answers, and Label Studio's routes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from threading import BoundedSemaphore

from flask import Flask, Response, g, jsonify, request
from redis.exceptions import RedisError, ResponseError
from werkzeug.exceptions import HTTPException

from backend.errors import BackendError, BadLabelConfig, BadSetting, LabelStudioBusy, NotFound, TooBusy
from backend.logs import about
from backend.project.credentials import load_credentials
from backend.project.folder import connected_projects
from backend.queue.connection import redis_of
from backend.settings import Settings
from backend.web.access import Role, role_of
from backend.web.metrics import Metrics
from backend.web.pages import Pages, pages
from backend.web.predictor import Predictor
from backend.web.protocol import PREDICTIONS_AT_ONCE, routes
from backend.web.readiness import Readiness

logger = logging.getLogger(__name__)

STATUS = {BadSetting: 400, BadLabelConfig: 400, NotFound: 404, LabelStudioBusy: 503, TooBusy: 503}


def create_app(settings: Settings, start_anew: Callable[[], None] | None = None) -> Flask:
    """The backend's web app; needs neither Redis nor Label Studio to start and to answer `/health` and `/setup`.

    `start_anew` has this process replaced by another one, where its GPU has failed.
    """
    app = Flask(__name__)
    app.config["MASKAL_SETTINGS"] = settings
    app.extensions["maskal_predictor"] = predictor = Predictor(settings, start_anew)
    app.extensions["maskal_predictions"] = BoundedSemaphore(PREDICTIONS_AT_ONCE)
    app.extensions["maskal_redis"] = redis_of(settings, connect_timeout_s=0.5, timeout_s=0.5)
    load_credentials(settings)
    for folder in connected_projects(settings.data_dir):
        predictor.read_ahead(folder)
    app.extensions["maskal_pages"] = Pages(settings)
    app.register_blueprint(routes)
    app.register_blueprint(pages)
    app.add_url_rule("/health", "health", lambda: jsonify(status="UP"))
    metrics = Metrics(settings, app.extensions["maskal_redis"])
    metrics.watch(app)
    app.add_url_rule("/metrics", "metrics", metrics.answer)
    readiness = Readiness(settings, app.extensions["maskal_redis"])
    app.add_url_rule("/ready", "ready", lambda: _answer_ready(readiness))
    app.before_request(_note_project)
    app.teardown_request(lambda _err: g.pop("about", ExitStack()).close())
    app.before_request(lambda: _refuse_strangers(settings))
    app.register_error_handler(Exception, lambda err: _answer_error(err, metrics))
    return app


def _note_project() -> None:
    """Let what is logged while a request is answered say which project it is about."""
    project_id = (request.view_args or {}).get("project_id")
    if project_id is not None:
        g.about = ExitStack()
        g.about.enter_context(about(project=project_id))


def _refuse_strangers(settings: Settings) -> tuple[Response, int, dict[str, str]] | None:
    """Ask for Basic auth everywhere but at /health and /ready; the webhook may show its secret header instead.

    The viewer's password opens the pages, and does nothing there; Prometheus' password opens /metrics alone.
    """
    if request.path == "/ready" or request.path.endswith("/health"):
        return None
    g.role = role = role_of(request, load_credentials(settings), settings)
    if role is Role.COLLECTOR and request.endpoint == "metrics":
        return None
    is_page = request.blueprint == "pages" or request.endpoint == "static"
    if role is Role.MAIN or (role is Role.WEBHOOK and request.path.endswith("/webhook")):
        return None
    if role is Role.VIEWER and is_page:
        if request.method in ("GET", "HEAD"):
            return None
        return jsonify(error="the viewer's password opens the pages for reading only"), 403, {}
    error = jsonify(error="wrong or missing password; run `maskal connect` so that Label Studio knows the right one")
    return error, 401, {"WWW-Authenticate": 'Basic realm="maskal"'}


def _answer_ready(readiness: Readiness) -> tuple[Response, int]:
    failing = readiness.failing()
    return (jsonify(status="FAILING", failing=failing), 503) if failing else (jsonify(status="READY"), 200)


def _answer_error(err: Exception, metrics: Metrics) -> tuple[Response, int]:
    metrics.note_failure(err)
    if isinstance(err, HTTPException):
        return jsonify(error=err.description), err.code or 500
    if isinstance(err, RedisError):
        logger.error("%s %s: Redis fails: %s", request.method, request.path, err)
        told = "takes no data" if isinstance(err, ResponseError) else "does not answer; start it or set REDIS_URL"
        return jsonify(error=f"Redis {told}. Nothing is lost: annotations are read again later"), 503
    if isinstance(err, BackendError):
        logger.warning("%s %s: %s", request.method, request.path, err)
        status = next((code for kind, code in STATUS.items() if isinstance(err, kind)), 500)
        return jsonify(error=str(err)), status
    logger.error("%s %s failed", request.method, request.path, exc_info=err)
    return jsonify(error="an unexpected error; the server's log has the details"), 500
