from __future__ import annotations

from pathlib import Path

import pytest

from backend.care.words import LONGEST, Discretion
from backend.project.credentials import Credentials
from backend.settings import Settings


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> Discretion:
    """Of a DATA_DIR as the container has it."""
    known = Credentials(None, None, "hunter2", "hunter3")
    monkeypatch.setattr("backend.care.words.load_credentials", lambda settings: known)
    return Discretion(Settings(data_dir=Path("/data"), viewer_password="look", metrics_password="count"))


@pytest.mark.parametrize(
    "text",
    [
        "http://label-studio:8080/data/upload/3/a.jpg is no image",
        "give the address https://host/data, or ../data/a.jpg",
        "/mnt/data/a.safetensors is not there, nor /database/a, /data-old/a or /data.bak",
    ],
)
def test_addresses_and_folders_that_only_hold_its_name_are_told_as_they_are(words: Discretion, text: str) -> None:
    assert words.of(text) == text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("wanted JSON in /data/projects/3.1/standing.json", "wanted JSON in DATA_DIR/projects/3.1/standing.json"),
        ("DATA_DIR /data cannot be written", "DATA_DIR DATA_DIR cannot be written"),
        ("'/data/secrets.json', (/data), /data", "'DATA_DIR/secrets.json', (DATA_DIR), DATA_DIR"),
    ],
)
def test_the_folder_of_the_data_is_not_told(words: Discretion, text: str, told: str) -> None:
    assert words.of(text) == told


def test_no_password_is_told_and_a_long_text_is_cut(words: Discretion) -> None:
    assert words.of("hunter2 hunter3 look count") == "… … … …"
    assert words.of("x" * LONGEST) == "x" * LONGEST
    assert words.of("x" * LONGEST + "y") == "x" * LONGEST + "…"
