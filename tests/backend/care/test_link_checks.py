from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from redis import Redis

from backend.care import link_checks
from backend.care.case import Case, Fault
from backend.care.link_checks import reachable
from backend.settings import Settings
from backend.workers.clock import tick

ADDRESS = "http://127.0.0.1:9401/p/3"


def case(answer: str) -> Any:
    return SimpleNamespace(client=SimpleNamespace(offer_backend=lambda *offer: answer), project_id=3, address=ADDRESS)


@pytest.mark.parametrize("told", ["port=40121", "<HTTPConnection object at 0x7f21401a4d50>", f"{ADDRESS}/setup"])
def test_a_backend_that_is_down_is_told_whatever_numbers_the_error_holds(told: str) -> None:
    with pytest.raises(Fault, match=r"start `maskal serve` there.*localhost are the container"):
        reachable(case(f"HTTPConnectionPool({told}): Max retries exceeded (Connection refused)"))


def test_a_backend_that_refuses_a_wrong_password_is_reached() -> None:
    assert reachable(case(f"401 Client Error: Unauthorized for url: {ADDRESS}/setup")) == "Label Studio reaches it"


def test_a_worker_of_the_same_data_is_well_whatever_password_the_server_is_given(
    redis: Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_checks, "has_worker", lambda *queue: True)
    tick(redis, settings)
    given = replace(settings, basic_password="chosen", webhook_secret="chosen, too")
    assert link_checks.workers(Case(given, 3)) == "both queues are looked after"
    with pytest.raises(Fault, match="the worker uses another DATA_DIR"):
        link_checks.workers(Case(replace(settings, data_dir=settings.data_dir / "other"), 3))
