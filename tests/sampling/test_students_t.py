from __future__ import annotations

import pytest

from sampling.students_t import students_t


@pytest.mark.parametrize(
    ("freedom", "t90", "t95"),
    [(1, 6.314, 12.706), (2, 2.920, 4.303), (3, 2.353, 3.182), (4, 2.132, 2.776), (19, 1.729, 2.093)],
)
def test_it_is_what_tables_say(freedom: int, t90: float, t95: float) -> None:
    assert students_t(freedom, 0.9) == pytest.approx(t90, rel=0.01)
    assert students_t(freedom, 0.95) == pytest.approx(t95, rel=0.01)


def test_one_value_has_no_interval() -> None:
    with pytest.raises(ValueError, match="one degree of freedom at least, got 0"):
        students_t(0, 0.95)
