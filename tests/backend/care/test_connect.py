"""What `maskal connect` refuses before it changes anything; with the real Label Studio: tests/e2e/test_bad_input.py."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from backend.care import connect as module
from backend.care.connect import Connection, _client, connect
from backend.errors import BadSetting, LabelStudioError
from backend.label_studio.client import TITLE, Backend, Project
from backend.project.credentials import BASIC_USER
from backend.project.folder import connect_folder, connected_projects, find_folder
from backend.settings import Settings
from model.errors import BadCheckpoint
from tests.backend.configs import POLYGONS


class Untouched:
    """A Label Studio with one project that takes no change."""

    def __init__(self, url: str, key: str, public_url: str | None, attempts: int) -> None:
        pass

    def whoami(self) -> dict[str, object]:
        return {}

    def project(self, project_id: int) -> Project:
        return Project(project_id, "1.1", "leaves", POLYGONS, "", (0, 0, 0, 0))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (
            "pretrained_weights: COCO-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_3x.yaml",
            BadCheckpoint,
            "the name of a config in Detectron2's model zoo",
        ),
        ("pretrained_weights: page.pth", BadCheckpoint, "it is an HTML page"),
        ("pretrained_weights: gone.pth", BadCheckpoint, "cannot read weights gone.pth"),
        ("classes: [a]\nweightsroot: w", BadSetting, "classes: the labelling config"),
        ("pool_sise: 3", BadSetting, "unknown setting 'pool_sise'"),
    ],
)
def test_bad_settings_and_weights_are_refused_before_anything_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, error: type[Exception], message: str
) -> None:
    monkeypatch.setattr(module, "LabelStudio", Untouched)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.pth").write_text("<!doctype html><title>Sign in</title>")
    (tmp_path / "maskAL.yaml").write_text(text)
    data = tmp_path / "data"
    wanted = Connection(1, "http://127.0.0.1:9", "key", config=tmp_path / "maskAL.yaml")
    with pytest.raises(error, match=message):
        connect(Settings(data_dir=data), wanted)
    assert not list(data.rglob("projects"))


class Connected:
    """A Label Studio with a project that one connected before, by its backend's address."""

    def __init__(self, address: str) -> None:
        self.url, self.public_url, self.auth = "http://127.0.0.1:9", "", SimpleNamespace(api_key="key")
        self.rows = [{"id": 1, "title": TITLE, "url": address, "basic_auth_user": BASIC_USER}]
        self.hooks: list[str] = []

    def whoami(self) -> dict[str, object]:
        return {}

    def project(self, project_id: int) -> Project:
        return Project(project_id, "4.1", "leaves", POLYGONS, "", (0, 0, 0, 0))

    def backends(self, project_id: int) -> list[dict[str, Any]]:
        return self.rows

    def update_backend(self, backend_id: int, backend: Backend) -> None:
        self.rows[0]["url"] = backend.url

    def webhooks(self, project_id: int) -> list[dict[str, Any]]:
        return []

    def add_webhook(self, project_id: int, url: str, headers: dict[str, str]) -> None:
        self.hooks.append(url)

    def update_project(self, project_id: int, **fields: object) -> None:
        pass

    def request(self, method: str, path: str, **options: object) -> None:
        raise LabelStudioError("no tabs here")


@pytest.mark.parametrize(
    ("last", "is_known", "wanted"),
    [
        ("http://10.0.0.5:9090/maskal/p/4", True, "http://10.0.0.5:9090/maskal/p/4"),
        ("http://127.0.0.1:9090/p/4", True, "http://127.0.0.1:9191/p/4"),
        ("http://10.0.0.5:9090/p/4", False, "http://127.0.0.1:9191/p/4"),
        ("http://10.0.0.5:9090", True, "http://127.0.0.1:9191/p/4"),
    ],
    ids=["here", "at another port", "by another DATA_DIR", "by label-studio-ml's server"],
)
def test_a_backend_s_address_that_is_not_said_again_stays_as_it_was_connected_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str, is_known: bool, wanted: str
) -> None:
    label_studio = Connected(last)
    monkeypatch.setattr(module, "LabelStudio", lambda *given, **options: label_studio)
    settings = Settings(data_dir=tmp_path, redis_url="redis://127.0.0.1:9/0", port=9191)
    if is_known:
        connect_folder(tmp_path, "4.1")
    connect(settings, Connection(4, "http://127.0.0.1:9", "key"))
    assert label_studio.rows[0]["url"] == wanted
    assert label_studio.hooks == [f"{wanted}/webhook"]


def test_the_project_that_was_connected_last_is_the_one_of_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A trial database was connected meanwhile; its project of the same number is younger."""
    label_studio = Connected("http://127.0.0.1:9090/p/4")
    monkeypatch.setattr(module, "LabelStudio", lambda *given, **options: label_studio)
    trial = connect_folder(tmp_path, "4.2")
    connect_folder(tmp_path, "5.1")
    connect(Settings(data_dir=tmp_path, redis_url="redis://127.0.0.1:9/0"), Connection(4, "http://127.0.0.1:9", "key"))
    assert find_folder(tmp_path, 4).uid == "4.1"
    assert [folder.uid for folder in connected_projects(tmp_path)] == ["4.1", "5.1"]
    assert trial.path.is_dir() and f"{trial.path} is kept" in caplog.text


class Instructed:
    """A Label Studio that keeps what a project's instruction is changed to."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def update_project(self, project_id: int, *, expert_instruction: str) -> None:
        self.told.append(expert_instruction)


def link(instruction: str, public_url: str | None, *, is_hosted: bool = False) -> list[str]:
    project = Project(4, "4.1", "leaves", POLYGONS, "", (0, 0, 0, 0), instruction=instruction)
    client = Instructed()
    settings = Settings(data_dir=Path("data"), public_url=public_url)
    module._link_page(cast(Any, client), project, settings, is_hosted=is_hosted)
    return client.told


def test_annotators_are_led_to_the_page_only_where_browsers_reach_it() -> None:
    assert link("own", None) == []
    (linked,) = link("own", "https://host/maskal")
    assert linked.startswith("own\n") and "https://host/maskal/p/4/" in linked
    assert link(linked, "https://host/maskal") == [], "nothing is to be changed"
    assert link("own", "https://host", is_hosted=True) == [], "label-studio-ml's server has no page"
    assert link(linked, "https://host", is_hosted=True) == ["own"]


def test_the_key_of_the_environment_is_taken_where_no_option_shows_it(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, label_studio_api_key="hidden")
    assert _client(settings, Connection(1, "http://127.0.0.1:1")).auth.api_key == "hidden"
    assert _client(settings, Connection(1, "http://127.0.0.1:1", "shown")).auth.api_key == "shown"
    with pytest.raises(BadSetting, match="--url, and LABEL_STUDIO_API_KEY or --api-key"):
        _client(Settings(data_dir=tmp_path), Connection(1, "http://127.0.0.1:1"))


def test_who_is_at_the_screen_is_asked_for_the_key_that_there_is_not(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    wanted = Connection(1, "http://127.0.0.1:9", ask_key=lambda: " typed ")
    assert _client(settings, wanted).auth.api_key == "typed"
    known = Settings(data_dir=tmp_path, label_studio_api_key="known")
    assert _client(known, wanted).auth.api_key == "known"
    with pytest.raises(BadSetting, match="the address and an API key"):
        _client(settings, Connection(1, ask_key=lambda: "typed"))
