"""The map names what there is, and all of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAP = (ROOT / "ARCHITECTURE.md").read_text()
NAMED = sorted(set(re.findall(r"`((?:backend|model|sampling|tests)/[\w/.]*)`", MAP)))


@pytest.mark.parametrize("name", NAMED)
def test_what_the_map_names_exists(name: str) -> None:
    path = ROOT / name
    assert path.is_dir() if name.endswith("/") else path.is_file()


def test_the_map_names_every_wing() -> None:
    wings = {
        f"{p.parent.relative_to(ROOT)}/"
        for package in ("backend", "model")
        for p in ROOT.glob(f"{package}/*/__init__.py")
    }
    assert wings <= set(NAMED)


def test_the_map_has_the_laws_order() -> None:
    from_map = re.findall(r"^\| `backend/(\w+)(?:/|\.py)`", MAP, re.M)
    law = (ROOT / "tests" / "test_import_law.py").read_text()
    order = re.findall(r'"(\w+)"', law.partition('"backend": (')[2].partition('"model": (')[0])
    assert from_map == [wing for wing in order if wing not in ("counted", "errors")]


def test_the_readme_points_to_the_map() -> None:
    assert "(ARCHITECTURE.md)" in (ROOT / "README.md").read_text()
