from __future__ import annotations

import pytest

from backend.rounds.copies_last import copies_counted


@pytest.mark.parametrize(
    ("count", "of", "is_advised"), [(11, 20, True), (10, 20, False), (19, 19, False), (0, 40, False)]
)
def test_where_most_images_are_near_copies_a_fixed_camera_is_thought_of(count: int, of: int, is_advised: bool) -> None:
    told = "".join(copies_counted(7, count, of))
    assert ("set `near_copies: keep`" in told) == is_advised
    assert ("`maskal config --project 7 --set near_copies=keep`" in told) == is_advised
    assert told.startswith(f"{count} open images come last") if count else not told
