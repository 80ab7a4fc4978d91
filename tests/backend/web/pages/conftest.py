"""Pages of a machine with one project that has versions."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from redis import Redis

from backend.project.credentials import BASIC_USER, load_credentials
from backend.settings import Settings
from backend.web.app import create_app
from tests.backend.shown_project import ShownProject


@pytest.fixture
def settings(tmp_path: Path, redis_url: str) -> Settings:
    """Of a machine with one project; no Label Studio is known, so nothing is asked of one."""
    return Settings(data_dir=tmp_path, redis_url=redis_url, viewer_password="look")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of data with a project that has versions, to be copied."""
    folder = tmp_path_factory.mktemp("prepared")
    project = ShownProject(folder)
    project.make_versions()
    project.look()
    return folder


@pytest.fixture
def shown(settings: Settings, prepared: Path) -> ShownProject:
    shutil.copytree(prepared, settings.data_dir, dirs_exist_ok=True)
    return ShownProject(settings.data_dir)


@pytest.fixture
def app(settings: Settings, redis: Redis) -> Flask:
    return create_app(settings)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def main(settings: Settings) -> tuple[str, str]:
    return BASIC_USER, load_credentials(settings).basic_password
