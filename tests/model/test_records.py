from __future__ import annotations

import math

import numpy as np
import pytest

from model.errors import BadRecord
from model.records import Outline, Polygon

SQUARE = (Polygon(np.array([[1, 1], [4, 1], [4, 4], [1, 4]], float)),)


@pytest.mark.parametrize("score", [None, 0, 0.5, 1])
def test_a_score_is_none_or_0_to_1(score: float | None) -> None:
    assert Outline("leaf", SQUARE, score).score == score


@pytest.mark.parametrize("score", [-0.01, 1.01, math.nan, math.inf])
def test_another_score_is_refused(score: float) -> None:
    with pytest.raises(BadRecord, match=r"the score of object 'leaf' is .*, wanted 0\.\.1"):
        Outline("leaf", SQUARE, score)
