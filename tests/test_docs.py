"""The pages tell of all there is, and their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from backend.cli import main
from backend.project.config import ProjectConfig
from model.formats.table import FORMATS
from model.registry import Registry, VersionFields
from model.stored_weights import add_version
from sampling.strategies import STRATEGIES
from tests.backend.outlined_photos import CLASSES, network, picture

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")), ROOT / "docker" / "README.md"]
TEXT = {page: page.read_text() for page in PAGES}
LINKS = [(page, link) for page in PAGES for link in re.findall(r"\]\(([^)\s]+)\)", TEXT[page]) if "://" not in link]


def anchors(page: Path) -> set[str]:
    """The names by which GitHub reaches a page's headings."""
    headings = re.findall(r"^#+ (.+)$", TEXT[page], re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("page", "link"), LINKS, ids=[f"{page.name}:{link}" for page, link in LINKS])
def test_a_link_leads_somewhere(page: Path, link: str) -> None:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    assert target.exists()
    assert not anchor or anchor in anchors(target)


def test_every_page_is_reached_from_the_readme() -> None:
    linked = {(ROOT / link.partition("#")[0]).resolve() for page, link in LINKS if page == ROOT / "README.md"}
    assert set((ROOT / "docs").glob("*.md")) <= linked


@pytest.mark.parametrize("name", ProjectConfig.model_fields)
def test_a_setting_is_explained(name: str) -> None:
    assert re.search(rf"^\|[^|]*`{name}`", TEXT[ROOT / "docs" / "settings.md"], re.M)


def test_every_variable_of_the_environment_is_explained() -> None:
    read = set(
        re.findall(r'(?:environ, |environ\.get\(|\)\.get\()"([A-Z_]+)"', (ROOT / "backend/settings.py").read_text())
    )
    told = set(re.findall(r"`([A-Z_]+)`", TEXT[ROOT / "docs" / "settings.md"]))
    assert len(read) > 15 and read <= told


@pytest.mark.parametrize("name", [name for name, command in main.commands.items() if not command.hidden])
def test_a_command_is_shown(name: str) -> None:
    assert any(f"maskal {name}" in text for text in TEXT.values())


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_is_explained(name: str) -> None:
    assert f"`{name}`" in TEXT[ROOT / "docs" / "choosing.md"]


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_explained(name: str) -> None:
    assert f"| `{name}` |" in TEXT[ROOT / "docs" / "folders.md"]


def test_a_version_is_used_from_python_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Objects are found with nothing but the file that the page names."""
    (program,) = re.findall(r"```python\n(.+?)```", TEXT[ROOT / "docs" / "folders.md"], re.S)
    fields = VersionFields(3, CLASSES, "fake", {"network": "colours"}, {}, None, "", True, "")
    add_version(Registry(tmp_path / "1.17"), fields, network().tensors())
    monkeypatch.chdir(tmp_path / "1.17" / "versions" / "maskal-r3")
    exec(program, {"image": picture({"plum": [(8, 8)], "tomato": [(64, 64)]})})
    assert [line.split()[0] for line in sorted(capsys.readouterr().out.splitlines())] == ["plum", "tomato"]
