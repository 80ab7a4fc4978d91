"""Student's t: how many standard errors wide an interval has to be where the spread itself is known from few values."""

from __future__ import annotations

import math
from statistics import NormalDist


def students_t(freedom: int, confidence: float) -> float:
    """Standard errors to either side of a mean that hold the truth with that confidence, 0..1 without the ends.

    Exact for one and two degrees of freedom, within 1 % from three on (Abramowitz and Stegun 26.7.5) for a confidence
    of up to 0.95. Raises ValueError for less than one.
    """
    if freedom < 1:
        raise ValueError(f"an interval needs one degree of freedom at least, got {freedom}")
    if freedom == 1:
        return math.tan(math.pi * confidence / 2)
    if freedom == 2:
        return confidence * math.sqrt(2 / (1 - confidence**2))
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3
