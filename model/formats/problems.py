"""What is broken in a file becomes one line that says where and why, and the rest of the file is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from model.errors import BadRecord

OnProblem = Callable[[str], None]

Tell = Callable[[str], None]
"""Reports what is wrong at a place that is known already, and costs nothing but what it says."""

BROKEN = (BadRecord, OSError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What reading a file raises that does not hold what it should: values of a wrong type or size, missing keys, ..."""


class Remark(str):
    """A line about what costs no object; whoever counts what was lost passes it over."""


@contextmanager
def noted(on_problem: OnProblem, *place: object) -> Iterator[Tell]:
    """Report what is broken in the block as one line "file: place: reason"; what follows the block goes on.

    The block is given what makes a Remark about the same place.
    """
    try:
        yield lambda fault: on_problem(Remark(problem_line(*place, fault)))
    except BROKEN as err:
        on_problem(problem_line(*place, reason(err)))


def problem_line(*parts: object) -> str:
    """Join places and a reason in one line; a file that the reason names already is not told twice."""
    *places, last = parts
    told = [place for place in places if not (isinstance(place, Path) and str(place) in str(last))]
    return ": ".join(" ".join(str(part).split()) for part in [*told, last])


def reason(err: Exception) -> str:
    """What is wrong, for a reader who knows the file but not this code."""
    if isinstance(err, KeyError):
        return f"{err} is missing or stands for nothing in the file"
    if isinstance(err, BadRecord | OSError | ValueError):
        return str(err)
    return f"it is not built as the format wants it ({type(err).__name__}: {err}); export it again"
