from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from backend.care.case import Fault
from backend.care.link_checks import reachable

ADDRESS = "http://127.0.0.1:9401/p/3"


def case(answer: str) -> Any:
    return SimpleNamespace(client=SimpleNamespace(offer_backend=lambda *offer: answer), project_id=3, address=ADDRESS)


@pytest.mark.parametrize("told", ["port=40121", "<HTTPConnection object at 0x7f21401a4d50>", f"{ADDRESS}/setup"])
def test_a_backend_that_is_down_is_told_whatever_numbers_the_error_holds(told: str) -> None:
    with pytest.raises(Fault, match="start `maskal serve` there"):
        reachable(case(f"HTTPConnectionPool({told}): Max retries exceeded (Connection refused)"))


def test_a_backend_that_refuses_a_wrong_password_is_reached() -> None:
    assert reachable(case(f"401 Client Error: Unauthorized for url: {ADDRESS}/setup")) == "Label Studio reaches it"
