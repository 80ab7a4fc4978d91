from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from backend.errors import BadSetting
from backend.project.credentials import forget_label_studio, load_credentials, store_label_studio
from backend.settings import Settings
from model.files import write_json


def test_passwords_are_made_once_and_only_the_owner_can_read_them(tmp_path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: load_credentials(settings), range(32)))
    assert len({c.basic_password for c in made}) == 1 and len(made[0].basic_password) >= 32
    path = settings.data_dir / "secrets.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in settings.data_dir.iterdir()] == ["secrets.json"]


def test_the_environment_wins_over_the_file(tmp_path) -> None:
    settings = Settings(data_dir=tmp_path)
    stored = store_label_studio(settings, "http://ls", "key")
    assert load_credentials(settings) == stored
    other = load_credentials(replace(settings, label_studio_api_key="other", basic_password="pw"))
    assert (other.label_studio_url, other.label_studio_api_key, other.basic_password) == ("http://ls", "other", "pw")


def test_passwords_of_the_environment_are_not_stored(tmp_path) -> None:
    settings = Settings(data_dir=tmp_path)
    own = load_credentials(settings)
    given = replace(settings, basic_password="for-now", webhook_secret="for-now-too")
    stored = store_label_studio(given, "http://ls", "key")
    assert (stored.label_studio_api_key, stored.basic_password) == ("key", "for-now")
    assert load_credentials(settings).basic_password == own.basic_password
    forget_label_studio(given)
    assert load_credentials(settings) == own


def test_a_missing_label_studio_is_told_with_its_mend(tmp_path) -> None:
    with pytest.raises(BadSetting, match="run `maskal connect"):
        load_credentials(Settings(data_dir=tmp_path)).require_label_studio()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("{broken", "holds no JSON object"),
        ("[]", "holds no JSON object"),
        ('{"basic_password": "the-password"}', "has no webhook_secret"),
        ('{"basic_password": null, "webhook_secret": 5}', "has no basic_password and no webhook_secret"),
    ],
)
def test_a_damaged_file_is_named_with_its_mend_and_without_what_it_holds(tmp_path, content: str, what: str) -> None:
    (tmp_path / "secrets.json").write_text(content)
    with pytest.raises(BadSetting, match=f"^secrets.json in DATA_DIR {what}; restore it .*`maskal connect`") as caught:
        load_credentials(Settings(data_dir=tmp_path))
    assert "the-password" not in str(caught.value) and str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"basic_password": "Grünkohl"}, "basic_password"),
        ({"webhook_secret": "白菜"}, "webhook_secret"),
        ({"webhook_secret": " pasted"}, "webhook_secret"),
    ],
)
@pytest.mark.parametrize("is_stored", [False, True], ids=["environment", "file"])
def test_a_secret_that_label_studio_cannot_send_is_refused(tmp_path, given: dict, named: str, is_stored: bool) -> None:
    settings = Settings(data_dir=tmp_path)
    if is_stored:
        write_json(tmp_path / "secrets.json", {"basic_password": "a b", "webhook_secret": "c", **given})
    else:
        settings = replace(settings, **given)
    with pytest.raises(BadSetting, match=f"^{named} .*without umlauts") as caught:
        load_credentials(settings)
    assert given[named] not in str(caught.value)


def test_no_secret_shows_when_printed(tmp_path) -> None:
    credentials = store_label_studio(Settings(data_dir=tmp_path), "http://ls", "the-key")
    shown = repr(credentials) + str(credentials)
    assert not any(secret in shown for secret in ("the-key", credentials.basic_password, credentials.webhook_secret))
