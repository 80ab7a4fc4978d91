"""Work on many images at once that gets by with less memory where there is not enough."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

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


SAID_WITHOUT_MEMORY = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "ALLOC_FAILED",
    "unable to find an engine to execute this computation",
)
"""What torch says with a plain RuntimeError: its CPU allocator, the driver, cuBLAS, and cuDNN for want of workspace."""


def is_out_of_memory(err: BaseException) -> bool:
    """Whether an error says that memory ran out."""
    return isinstance(err, torch.OutOfMemoryError | MemoryError) or any(
        text in str(err) for text in SAID_WITHOUT_MEMORY
    )
