from __future__ import annotations

import pytest

from backend.counted import counted


@pytest.mark.parametrize(("count", "told"), [(0, "0 images"), (1, "1 image"), (2, "2 images")])
def test_a_noun_follows_its_number(count: int, told: str) -> None:
    assert counted(count, "image") == told
