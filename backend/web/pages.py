"""The pages for people: all projects at `/`, one at `/p/<project id>/`, and what its buttons do."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from flask import Blueprint, Response, current_app, g, redirect, request

from backend.care.cancel import cancel
from backend.care.overview import Overview, look_over
from backend.care.rollback import roll_back
from backend.care.words import Discretion
from backend.errors import BackendError, BadSetting, NotFound
from backend.project.credentials import load_credentials
from backend.project.folder import ProjectFolder, connected_projects, find_folder
from backend.queue.connection import open_redis, require_writable
from backend.queue.jobs import hint
from backend.settings import Settings
from backend.web.access import Role, is_from_here, is_token, make_token
from backend.web.background import Actions, Checkups, Outcome
from backend.web.rendering import Renderer, thumbnail_bytes
from model.errors import ModelError

logger = logging.getLogger(__name__)

pages = Blueprint("pages", __name__)

POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
THUMBNAIL = re.compile(r"[0-9a-f]{64}")

FROM_PROJECT, FROM_ROOT = "../../", "./"
"""The way from a page to the root: relative, so that the backend may stand below a path of a proxy's."""


class Pages:
    """What the pages of one app share."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.renderer = Renderer.make()
        self.actions = Actions()
        self.checkups = Checkups(settings)

    def overview(self, folder: ProjectFolder) -> Overview:
        """What there is to see of a project."""
        return look_over(folder, current_app.extensions["maskal_redis"], Discretion(self.settings))

    def now(self, folder: ProjectFolder) -> dict[str, Any]:
        """The overview, and what else changes by itself; the outcome first, so that what it did is seen."""
        words, outcome = Discretion(self.settings), self.actions.outcome(folder.uid)
        seen, found = self.overview(folder), self.checkups.failing(folder.project_id) or []
        told = replace(outcome, told=words.of(outcome.told)) if outcome else None
        return {
            "seen": seen,
            "failing": [replace(finding, message=words.of(finding.message)) for finding in found],
            "outcome": told,
            "stamp": _stamp(seen, outcome),
            "said": _said(seen, told),
        }


def _pages() -> Pages:
    shared: Pages = current_app.extensions["maskal_pages"]
    return shared


def _folder(project_id: int) -> ProjectFolder:
    return find_folder(_pages().settings.data_dir, project_id)


@pages.after_request
def _protect(response: Response) -> Response:
    response.headers.update(HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")
    return response


@pages.errorhandler(BackendError)
def _tell(err: BackendError) -> tuple[str, int]:
    return _told("That does not work", str(err), 404 if isinstance(err, NotFound) else 400)


@pages.errorhandler(ModelError)
def _tell_damage(err: ModelError) -> tuple[str, int]:
    logger.error("%s: %s", request.path, err)
    return _told("This cannot be read", str(err), 500)


@pages.get("/")
def projects() -> str:
    """All connected projects; what is wrong with one that cannot be read."""
    seen, unreadable = [], []
    for folder in connected_projects(_pages().settings.data_dir):
        try:
            seen.append(_pages().overview(folder))
        except (BackendError, ModelError) as err:
            logger.error("project %s: %s", folder.uid, err)
            unreadable.append((folder.project_id, Discretion(_pages().settings).of(str(err))))
    return _pages().renderer.page("projects.html", root=FROM_ROOT, projects=seen, unreadable=unreadable)


@pages.get("/p/<int:project_id>")
def without_slash(project_id: int) -> Any:
    """Lead to the page relatively, as a proxy may keep it below a path; Flask's own way names host and path."""
    return redirect(f"{project_id}/", 308)


@pages.get("/p/<int:project_id>/")
def project(project_id: int) -> str:
    """One project."""
    shared, folder = _pages(), _folder(project_id)
    token = make_token(load_credentials(shared.settings), folder.uid) if g.role is Role.MAIN else None
    values = shared.now(folder)
    standing = values["seen"].standing
    label_studio = standing.label_studio if standing else None
    return shared.renderer.project(**values, root=FROM_PROJECT, token=token, label_studio=label_studio)


@pages.get("/p/<int:project_id>/now")
def now(project_id: int) -> str:
    """The part of a project's page that changes by itself."""
    shared = _pages()
    return shared.renderer.page("now.html", **shared.now(_folder(project_id)))


@pages.get("/p/<int:project_id>/thumbnails/<name>.jpg")
def thumbnail(project_id: int, name: str) -> Response:
    """A small picture; its name says what it shows, so it never changes."""
    content = thumbnail_bytes(_pages().settings.data_dir, name) if THUMBNAIL.fullmatch(name) else None
    if content is None:
        raise NotFound("this picture is no longer kept; the next version brings new ones")
    return Response(content, mimetype="image/jpeg", headers={"Cache-Control": "private, max-age=86400, immutable"})


@pages.post("/p/<int:project_id>/round")
def start_round(project_id: int) -> Any:
    """Ask for a round."""

    def ask(folder: ProjectFolder) -> str:
        redis = open_redis(_settings)
        require_writable(redis)
        hint(redis, folder.uid, is_forced=True)
        return "a round was asked for; it begins within a minute"

    _settings = _pages().settings
    return _act(project_id, "asking for a round", ask)


@pages.post("/p/<int:project_id>/cancel")
def cancel_round(project_id: int) -> Any:
    """Cancel the round under way."""
    settings = _pages().settings
    return _act(project_id, "cancelling the round", lambda folder: cancel(open_redis(settings), folder))


@pages.post("/p/<int:project_id>/rollback")
def go_back(project_id: int) -> Any:
    """Serve an earlier version again."""
    settings, to = _pages().settings, request.form.get("to") or None
    what = f"rolling back to {to or 'an earlier version'}; its predictions are sent"
    return _act(project_id, what, lambda folder: roll_back(settings, open_redis(settings), folder, to))


def _act(project_id: int, what: str, action: Callable[[ProjectFolder], str]) -> Any:
    """Do what a button says, in the background, and show the page again."""
    shared, folder = _pages(), _folder(project_id)
    token = request.form.get("token", "")
    if not is_from_here(request) or not is_token(token, load_credentials(shared.settings), folder.uid):
        return _told("Nothing was done", "This form is too old or not of this page; load the page again.", 403)
    if not shared.actions.start(folder.uid, what, lambda: action(folder)):
        raise BadSetting("another action is still at work; wait for it")
    return redirect("./", 303)


def _told(heading: str, text: str, status: int) -> tuple[str, int]:
    text = Discretion(_pages().settings).of(text)
    is_inside = request.path.startswith("/p/")
    values = {"root": FROM_PROJECT if is_inside else FROM_ROOT, "back": "./" if is_inside else None}
    return _pages().renderer.page("told.html", heading=heading, text=text, **values), status


def _stamp(seen: Overview, outcome: Outcome | None) -> str:
    """Changes when more of a page has changed than what changes by itself."""
    running = seen.running.number if seen.running else None
    can_be_cancelled = seen.running is not None and seen.running.can_be_cancelled
    is_at_it = outcome is not None and not outcome.is_done
    facts = (
        seen.served,
        running,
        can_be_cancelled,
        len(seen.history.versions),
        [one.picture.task for one in seen.front],
    )
    return hashlib.sha256(repr((facts, sorted(seen.history.rolled_back), is_at_it)).encode()).hexdigest()[:16]


def _said(seen: Overview, outcome: Outcome | None) -> str:
    """What a screen reader is told when it changes: steps, not each percent."""
    if outcome is not None and not outcome.is_done:
        return outcome.told
    if seen.running is not None:
        return f"Round {seen.running.number}: {seen.running.step}"
    return seen.verdict or ""
