"""Who may do what: Label Studio and those who run this backend all of it, viewers look at the pages."""

from __future__ import annotations

import hashlib
import hmac
import time
from enum import Enum

from flask import Request

from backend.project.credentials import BASIC_USER, SECRET_HEADER, Credentials
from backend.settings import Settings

VIEWER = "viewer"
"""The user's name that belongs to MASKAL_VIEWER_PASSWORD."""

COLLECTOR = "metrics"
"""The user's name that belongs to MASKAL_METRICS_PASSWORD."""

TOKEN_S = 12 * 3600
"""How long the buttons of an open page can be used."""


class Role(Enum):
    """What somebody has shown to be."""

    STRANGER = "stranger"
    WEBHOOK = "webhook"
    VIEWER = "viewer"
    COLLECTOR = "collector"
    MAIN = "main"


def role_of(request: Request, credentials: Credentials, settings: Settings) -> Role:
    """Who asks, by the Basic password or the webhook's secret."""
    try:
        given = request.authorization
    except ValueError:  # it is neither base64 nor ASCII
        given = None
    user, password = (given.username, given.password) if given is not None else (None, None)
    if _same(user, BASIC_USER) and _same(password, credentials.basic_password):
        return Role.MAIN
    if settings.viewer_password and _same(user, VIEWER) and _same(password, settings.viewer_password):
        return Role.VIEWER
    if settings.metrics_password and _same(user, COLLECTOR) and _same(password, settings.metrics_password):
        return Role.COLLECTOR
    if _same(request.headers.get(SECRET_HEADER), credentials.webhook_secret):
        return Role.WEBHOOK
    return Role.STRANGER


def make_token(credentials: Credentials, uid: str, now: float | None = None) -> str:
    """What a form of a project's page carries, so that no other site can send it: browsers add the password to any."""
    until = int((time.time() if now is None else now) + TOKEN_S)
    return f"{until}.{_sign(credentials, uid, until)}"


def is_token(text: str, credentials: Credentials, uid: str) -> bool:
    """Whether a form carries the token of a page of that project which is not too old."""
    until, _, signature = text.partition(".")
    if not until.isdecimal() or len(until) > 12 or int(until) < time.time():
        return False
    return _same(signature, _sign(credentials, uid, int(until)))


def is_from_here(request: Request) -> bool:
    """Whether a browser says that a form is of this site; those that say nothing are believed."""
    return request.headers.get("Sec-Fetch-Site", "same-origin") == "same-origin"


def _sign(credentials: Credentials, uid: str, until: int) -> str:
    key = f"{credentials.basic_password}:{credentials.webhook_secret}"
    return hmac.new(key.encode(), f"form:{uid}:{until}".encode(), hashlib.sha256).hexdigest()


def _same(given: str | None, wanted: str) -> bool:
    return hmac.compare_digest((given or "").encode(), wanted.encode())
