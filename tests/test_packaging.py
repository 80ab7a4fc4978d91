"""What is in the wheel and in the source distribution."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("backend", "model", "sampling")
BUILD = "from setuptools.build_meta import build_sdist, build_wheel; build_sdist('out'); build_wheel('out')"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of both, made from a copy of all that may be in them."""
    pytest.importorskip("setuptools", reason="setuptools is not installed here")
    copy = tmp_path_factory.mktemp("source")
    for path in (path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"):
        shutil.copy(path, copy)
    for folder in (*PACKAGES, "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-c", BUILD], cwd=copy, check=True, capture_output=True)
    return copy / "out"


def of_packages(folder: Path) -> set[str]:
    """Files of the packages below a folder, as POSIX paths."""
    files = (path for package in PACKAGES for path in (folder / package).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix() for path in files if "__pycache__" not in path.parts}


def test_the_wheel_holds_all_files_of_the_packages_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == of_packages(ROOT)


def test_the_source_holds_what_an_installation_needs_and_no_part_of_the_tests(built: Path) -> None:
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    assert of_packages(ROOT) | {"LICENSE", "README.md", "CHANGELOG.md", "constraints.txt"} <= names
    assert not {name for name in names if name.startswith("tests/")}
