from __future__ import annotations

from tests.benchmarks.scale import exponents, measure


def figures(seconds: float, peak_mb: float) -> dict[str, dict[str, float]]:
    return {"rank": {"seconds": seconds, "peak_mb": peak_mb}}


def test_exponents_are_those_of_the_two_largest_sizes() -> None:
    found = {1: figures(50, 50), 100: figures(4, 3), 10: figures(2, 3)}
    assert exponents(found) == {"rank": {"seconds": 0.3, "peak_mb": 0.0}}
    assert exponents({10: figures(2, 3), 100: figures(200, 30)}) == {"rank": {"seconds": 2.0, "peak_mb": 1.0}}


def test_what_did_not_grow_has_no_exponent() -> None:
    assert exponents({10: figures(1, 0), 100: figures(1, 8)})["rank"]["peak_mb"] is None
    assert exponents({10: figures(1, 0)}) == {}


def test_every_action_is_taken_and_measured() -> None:
    found = measure(6)
    assert list(found) == ["rank", "push", "rank again", "push again", "look", "status"]
    assert all(one["seconds"] >= 0 and one["peak_mb"] >= 0 for one in found.values())
