"""Work on many images at once that gets by with less memory where there is not enough."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from model.errors import is_out_of_memory

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")


def in_halves(work: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]) -> list[R]:
    """The results of all items, by halves where memory does not suffice; the error of a single item is raised."""
    try:
        return list(work(items))
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as err:
        if len(items) < 2 or not is_out_of_memory(err):
            raise
        logger.warning("not enough memory for %d images at once, trying %d", len(items), len(items) // 2)
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    middle = len(items) // 2
    return in_halves(work, items[:middle]) + in_halves(work, items[middle:])
