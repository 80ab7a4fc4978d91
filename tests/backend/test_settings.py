from __future__ import annotations

import re

import pytest

from backend.errors import BadSetting
from backend.settings import proxy_for, read_settings


def test_the_environment_is_read_and_the_rest_has_defaults(tmp_path) -> None:
    settings = read_settings({"DATA_DIR": str(tmp_path), "PORT": "9191", "ALLOWED_PRIVATE_HOSTS": "minio, nas.local"})
    assert (settings.data_dir, settings.port, settings.host) == (tmp_path, 9191, "127.0.0.1")
    assert settings.allowed_private_hosts == ("minio", "nas.local")
    assert settings.redis_url is None
    assert settings.task_lock_s == 86400, "Label Studio's default"
    assert read_settings({"TASK_LOCK_TTL": "172800"}).task_lock_s == 172800


def test_a_file_in_place_of_the_data_folder_is_named(tmp_path) -> None:
    path = tmp_path / "data"
    path.touch()
    with pytest.raises(BadSetting, match=f"DATA_DIR must be a folder, got the file {path}"):
        read_settings({"DATA_DIR": str(path)})


@pytest.mark.parametrize("value", ["eighty", "0", "-1", "nan", "inf"])
def test_a_number_that_is_none_is_named(value: str) -> None:
    with pytest.raises(BadSetting, match=f"MAX_IMAGE_MB must be a number above 0, got '{value}'"):
        read_settings({"MAX_IMAGE_MB": value})


@pytest.mark.parametrize("value", ["many", "0", "-1", "9090.5", "65536"])
def test_a_port_that_is_none_is_named(value: str) -> None:
    with pytest.raises(BadSetting, match=f"PORT must be a port from 1 to 65535, got '{value}'"):
        read_settings({"PORT": value})


def test_an_address_of_ip_version_6_is_a_host_with_or_without_its_brackets() -> None:
    assert [read_settings({"HOST": text}).host for text in ("::1", "[::1]", "::")] == ["[::1]", "[::1]", "[::]"]


@pytest.mark.parametrize("value", ["127.0.0.1:9090", "http://127.0.0.1"])
def test_a_host_with_more_than_its_name_is_named(value: str) -> None:
    with pytest.raises(BadSetting, match=f"HOST must be a host's name or address alone .*, got '{value}'"):
        read_settings({"HOST": value})


def test_what_was_pasted_with_a_line_ending_is_taken(tmp_path) -> None:
    pasted = {
        "DATA_DIR": f"{tmp_path}\r\n",
        "PORT": "9191\n",
        "LABEL_STUDIO_URL": " https://host/label-studio/\r\n",
        "LABEL_STUDIO_API_KEY": "abc.DEF-1\n",
        "BACKEND_URL": "\n",
    }
    settings = read_settings(pasted)
    assert (settings.data_dir, settings.port, settings.backend_url) == (tmp_path, 9191, None)
    assert settings.label_studio_url == "https://host/label-studio"
    assert settings.label_studio_api_key == "abc.DEF-1"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:8080",
        "localhost:8080",
        "http://127.0.0.1:port",
        "http://127.0.0.1:80800",
        "http://127.0.0.1:0",
        "http://",
        "http://host/projects?page=1",
        "http://host /ls",
        "http://host\n8080",
        '"http://host:8080"',
        "http://[::1",
        "ftp://host",
    ],
)
def test_an_address_that_is_none_is_named(address: str) -> None:
    message = f"LABEL_STUDIO_URL must be an address such as http://127.0.0.1:8080 or .*, got {re.escape(repr(address))}"
    with pytest.raises(BadSetting, match=message):
        read_settings({"LABEL_STUDIO_URL": address})


@pytest.mark.parametrize("key", ["Token abc", "ab\ncd", "schlüssel"])
def test_a_key_that_is_none_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(BadSetting, match="LABEL_STUDIO_API_KEY must be the API key alone") as caught:
        read_settings({"LABEL_STUDIO_API_KEY": key})
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("environment", "proxy"),
    [
        ({}, None),
        ({"HTTP_PROXY": "http://p:1"}, "http://p:1"),
        ({"http_proxy": "p:1"}, "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1"}, None),
        ({"ALL_PROXY": "http://p:1"}, "http://p:1"),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": "studio.example"}, None),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": ".example"}, None),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": "other"}, "http://p:1"),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": "*"}, None),
    ],
)
def test_the_proxy_of_the_environment_is_used_but_for_the_hosts_of_no_proxy(monkeypatch, environment, proxy) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for("http://studio.example:8080/a.png") == proxy
    assert [proxy_for(f"http://{here}:8080/a.png") for here in ("127.0.0.1", "localhost", "[::1]")] == [None] * 3
