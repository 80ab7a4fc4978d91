"""What `maskal doctor` makes of releases; all of its checks on the real Label Studio: tests/e2e/test_doctor.py."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from backend.care.case import Case, Doubt
from backend.care.doctor import CHECKS
from backend.care.project_checks import TRIED
from backend.settings import Settings

(SERVER,) = (check for name, _, check in CHECKS if name == "server")


def case_of(version: str, data_dir: Path) -> Case:
    case = Case(Settings(data_dir=data_dir), 1)
    client = SimpleNamespace(version=lambda: version, url="http://127.0.0.1:9")
    case.__dict__["client"] = cast(Any, client)
    return case


@pytest.mark.parametrize("version", [*TRIED, "1.23.9"])
def test_a_release_that_was_tried_is_well(version: str, tmp_path: Path) -> None:
    assert SERVER(case_of(version, tmp_path)) == f"Label Studio {version} at http://127.0.0.1:9"


@pytest.mark.parametrize("version", ["1.19.0", "1.24.0", "2.23.2", "1.2.3", "unknown"])
def test_a_release_that_was_not_is_named_and_not_refused(version: str, tmp_path: Path) -> None:
    with pytest.raises(Doubt, match=f"Label Studio {version} at .* was tried with 1.20.0, 1.22.0, 1.23.2"):
        SERVER(case_of(version, tmp_path))
