"""What `maskal doctor` makes of releases; all of its checks on the real Label Studio: tests/e2e/test_doctor.py."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from backend.care import link_checks, project_checks
from backend.care.case import Case, Doubt, Fault
from backend.care.doctor import CHECKS
from backend.care.project_checks import TRIED
from backend.rounds.snapshots import Entry, Snapshot
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


def test_one_task_and_one_minute_are_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Snapshot((Entry(1, 1, "a", "train"),))
    monkeypatch.setattr(project_checks, "open_workplace", lambda *about: None)
    monkeypatch.setattr(project_checks, "read_snapshot_of", lambda place: (one, {}))
    counted = SimpleNamespace(title="leaves", uid="1.1", counters=(1,), options={"show_collab_predictions": True})
    case = cast(Any, SimpleNamespace(settings=None, folder=SimpleNamespace(uid="1.1"), project=counted, redis=None))
    case.project_id, case.client = 1, SimpleNamespace(update_project=lambda *about, **fields: None)
    assert project_checks.learnable(case) == "1 annotated task can be learned from"
    assert project_checks.project(case).endswith("uid 1.1, 1 task")
    monkeypatch.setattr(link_checks, "DELIVERY_TIMEOUT_S", 0.0)
    for age_s, told in {70: "1 minute ago", 130: "2 minutes ago", -70: "0 minutes ago"}.items():
        monkeypatch.setattr(link_checks, "last_event", lambda redis, uid, age=age_s: time.time() - age)
        with pytest.raises(Fault, match=rf"last one: {told}\)"):
            link_checks.delivery(case)
