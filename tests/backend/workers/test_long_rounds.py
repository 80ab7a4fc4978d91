from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rq.timeouts import JobTimeoutException

from backend.project.folder import connect_folder
from backend.rounds.folder import MAX_ATTEMPTS, Round
from backend.workers import jobs


def test_a_round_that_takes_longer_than_a_job_may_goes_on_in_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A big pool on a CPU takes days to rank; what was scored until then is kept."""

    def run(*arguments: object) -> None:
        raise JobTimeoutException("Task exceeded maximum timeout value (86400 seconds)")

    monkeypatch.setattr(jobs, "_compute", run)
    place: Any = SimpleNamespace(folder=connect_folder(tmp_path, "1.1"))
    current = Round(place.folder.rounds / "1")
    current.state.state = "evaluated"
    current.save()
    current.scores.touch()
    for _ in range(MAX_ATTEMPTS):
        with pytest.raises(JobTimeoutException):
            jobs._run(cast(Any, None), place, current, cast(Any, True))
    assert Round(current.path).is_unfinished and not current.is_waiting
    assert current.scores.exists()
