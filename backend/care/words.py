"""Texts for people who may look at a project and nothing else: without secrets, paths and what addresses carry."""

from __future__ import annotations

import re
from dataclasses import replace

from backend.project.credentials import load_credentials
from backend.rounds.standing import Standing, Trouble
from backend.settings import Settings

LONGEST = 600
HIDDEN = "…"
QUERY = re.compile(r"(\bhttps?://[^\s?#'\"]*)[?#][^\s'\",;)]+")
LOGIN = re.compile(r"(\b[a-z][a-z0-9+]*://)[^\s/'\"]+@")


class Discretion:
    """Takes out of texts what nobody may read there who has the viewer's password only."""

    def __init__(self, settings: Settings) -> None:
        known = load_credentials(settings)
        secrets = (
            known.label_studio_api_key,
            known.basic_password,
            known.webhook_secret,
            settings.viewer_password,
            settings.metrics_password,
        )
        self._secrets = [secret for secret in secrets if secret]
        self._data_dir = re.compile(rf"(?<![\w./-]){re.escape(str(settings.data_dir))}(?![\w-]|\.\w)")

    def of(self, text: str) -> str:
        """The text without secrets, logins, queries of addresses and the folder of the data; cut where it is long."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        text = self._data_dir.sub("DATA_DIR", text)
        text = LOGIN.sub(r"\1", QUERY.sub(rf"\1?{HIDDEN}", text))
        return text if len(text) <= LONGEST else f"{text[:LONGEST]}{HIDDEN}"

    def of_standing(self, standing: Standing) -> Standing:
        """The standing with all its texts so."""
        return replace(
            standing,
            reason=self.of(standing.reason),
            unreadable=tuple(Trouble(one.task, self.of(one.reason)) for one in standing.unreadable),
            left_out=tuple(Trouble(one.task, self.of(one.reason)) for one in standing.left_out),
        )
