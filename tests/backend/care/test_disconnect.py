from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from tenacity import nap

from backend.care.disconnect import disconnect
from backend.cli import main
from backend.errors import BadSetting, LabelStudioError
from backend.project.credentials import load_credentials, store_label_studio
from backend.project.folder import connect_folder, connected_projects
from backend.settings import Settings
from backend.system.processes import free_port

MEND = "if that Label Studio is gone for good: `maskal disconnect --project 1 --here-only`"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Of a machine with one project, whose Label Studio does not answer any more."""
    monkeypatch.setattr(nap.time, "sleep", lambda seconds: None)
    settings = Settings(data_dir=tmp_path)
    connect_folder(tmp_path, "1.1")
    store_label_studio(settings, f"http://127.0.0.1:{free_port()}", "the-key")
    return settings


def test_what_is_gone_for_good_is_disconnected_here_and_it_is_told_what_is_left_there(settings: Settings) -> None:
    [folder] = connected_projects(settings.data_dir)
    with pytest.raises(LabelStudioError, match=MEND):
        disconnect(settings, None, folder)
    assert connected_projects(settings.data_dir) == [folder]
    told = disconnect(settings, None, folder, is_here_only=True)
    assert told.startswith("project 1 is disconnected; removed: the stored address and key of Label Studio")
    assert told.endswith("Label Studio was not asked: what is there of backend, webhook, tab, link to the page stays")
    assert not connected_projects(settings.data_dir) and folder.path.is_dir()
    assert load_credentials(settings).label_studio_api_key is None


def test_the_command_takes_the_project_out_here_alone(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port()}")
    told = CliRunner().invoke(main, ["disconnect", "--project", "1", "--here-only", "--delete"])
    assert told.exit_code == 0 and "its versions were deleted; Label Studio was not asked" in told.output
    assert not (settings.data_dir / "projects" / "1.1").exists()


def test_without_a_known_key_the_mend_is_told_too(settings: Settings) -> None:
    (folder,) = connected_projects(settings.data_dir)
    store_label_studio(settings, "http://127.0.0.1:1", "")
    with pytest.raises(BadSetting, match=MEND):
        disconnect(settings, None, folder)


def test_the_key_is_kept_for_the_projects_that_are_left(settings: Settings) -> None:
    other = connect_folder(settings.data_dir, "2.2")
    told = disconnect(settings, None, other, is_here_only=True)
    assert "removed: nothing; its versions are kept" in told and "no project is left" not in told
    assert load_credentials(settings).label_studio_api_key == "the-key"
