"""The files that are no Python: all of them are installed, and none of them asks for anything from elsewhere."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
WEB = ROOT / "backend" / "web"
FILES = sorted(path for path in WEB.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc"))


def test_every_template_and_static_file_is_installed() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    patterns = config["options.package_data"]["backend.web"].split()
    installed = {path for pattern in patterns for path in WEB.glob(pattern)}
    assert FILES and installed == set(FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_is_loaded_from_elsewhere_or_run_within_a_page(path: Path) -> None:
    text = path.read_text().replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|@import|url\(|//cdn", text), "the page works without an internet"
    assert not re.search(r"\son\w+=|\sstyle=|javascript:", text), "the policy of the pages forbids it"
    safe = re.findall(r"\|\s*safe\b|autoescape", text)
    assert len(safe) == (path.name == "report.html"), "only our own style sheet is no text"
