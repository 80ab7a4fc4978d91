from __future__ import annotations

import threading
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as RedisDown

from backend.care.case import FAILED, Finding
from backend.errors import BadSetting
from backend.settings import Settings
from backend.web.background import KEPT_S, UNEXPECTED, Actions, Checkups, Outcome


def join(name: str) -> None:
    for thread in threading.enumerate():
        if thread.name.startswith(name):
            thread.join(10)


def test_one_action_at_a_time_and_its_outcome_stays() -> None:
    actions, go_on = Actions(), threading.Event()
    assert actions.outcome("1.1") is None
    assert actions.start("1.1", "working", lambda: "done" if go_on.wait(10) else "late")
    assert actions.outcome("1.1") == Outcome("working", is_done=False, is_well=True)
    assert not actions.start("1.1", "again", lambda: "never")
    assert actions.start("2.2", "elsewhere", lambda: "other")
    go_on.set()
    join("action on")
    assert actions.outcome("1.1") == Outcome("done", is_done=True, is_well=True)
    assert actions.start("1.1", "next", lambda: "next")


def test_an_old_outcome_is_told_no_more() -> None:
    now = [100.0]
    actions = Actions(clock=lambda: now[0])
    actions.start("1.1", "working", lambda: "done")
    join("action on")
    now[0] += KEPT_S
    assert actions.outcome("1.1") is not None
    now[0] += 1
    assert actions.outcome("1.1") is None and actions.start("1.1", "again", lambda: "done")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (BadSetting("no such version"), "no such version"),
        (RedisDown("x"), "Redis does not answer"),
        (KeyError("x"), ""),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_failure_is_told_and_blocks_nothing(error: Exception, told: str) -> None:
    def fail() -> str:
        raise error

    actions = Actions()
    actions.start("1.1", "working", fail)
    join("action on")
    outcome = actions.outcome("1.1")
    assert outcome is not None and outcome.is_done and not outcome.is_well
    assert (told or UNEXPECTED) in outcome.told
    assert actions.start("1.1", "again", lambda: "well")


def test_links_are_looked_at_once_a_minute_however_often_the_page_is(tmp_path: Path) -> None:
    looks: list[int] = []
    go_on = threading.Event()

    def look(settings: Settings, project_id: int) -> list[Finding]:
        looks.append(project_id)
        assert go_on.wait(10)
        return [Finding("server", FAILED, "away")]

    checkups = Checkups(Settings(data_dir=tmp_path), look)
    assert checkups.failing(3) is None, "the page does not wait for the first look"
    go_on.set()
    join("look at")
    assert [finding.check for finding in checkups.failing(3) or []] == ["server"]
    checkups.failing(3), checkups.failing(4)
    join("look at")
    assert looks == [3, 4]
