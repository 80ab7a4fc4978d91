"""Calls that carry many things at once: a refused one is halved until what is at fault is alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from backend.errors import LabelStudioBusy, LabelStudioError, NotFound, WrongToken

T = TypeVar("T")
R = TypeVar("R")


def in_parts(send: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]) -> list[R | LabelStudioError]:
    """What Label Studio answers for each item, in their order; in the place of one that it refuses, why.

    What is at fault with the server, the key or the project is raised, as it is with every item.
    """
    if not items:
        return []
    try:
        answers = list(send(items))
    except (LabelStudioBusy, WrongToken, NotFound):
        raise
    except LabelStudioError as err:
        if len(items) == 1:
            return [err]
        middle = len(items) // 2
        return [*in_parts(send, items[:middle]), *in_parts(send, items[middle:])]
    if len(answers) != len(items):
        raise LabelStudioError(
            f"Label Studio was sent {len(items)} things and answered with {len(answers)}; what has arrived is kept, "
            "look at the project and run the command again"
        )
    return [*answers]
