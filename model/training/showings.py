"""Which image is shown when in training, and reading ahead of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import numpy as np

from model.training.dataset import Showing
from model.training.schedule import epoch_order

S = TypeVar("S")
T = TypeVar("T")

AHEAD = 2
"""Batches that are being read while one is trained on."""


def showings(factors: np.ndarray, seed: int, start: int = 0) -> Iterator[Showing]:
    """Endless showings from the `start`-th on, epoch after epoch, each image as often as its factor (n,) says.

    The seed and the position decide on each, whatever came before.
    """
    rng = np.random.default_rng(seed)
    position = 0
    while True:
        for index in epoch_order(factors, rng):
            if position >= start:
                yield Showing(index, int(np.random.SeedSequence([seed, position]).generate_state(1)[0]))
            position += 1


def read_ahead(
    items: Iterator[S], batch_size: int, read: Callable[[S], T], threads: int
) -> Generator[list[T], None, None]:
    """Batches of what `read` makes of the items, in their order, the next ones read in the background by threads.

    Without threads each is read when it is asked for. An error of `read` comes with the batch that it belongs to.
    """
    if threads == 0:
        while batch := [read(item) for item in islice(items, batch_size)]:
            yield batch
        return
    waiting: deque[list[Future[T]]] = deque()
    with ThreadPoolExecutor(threads, "read ahead") as pool:
        try:
            while True:
                while len(waiting) <= AHEAD and (chosen := list(islice(items, batch_size))):
                    waiting.append([pool.submit(read, item) for item in chosen])
                if not waiting:
                    return
                yield [future.result() for future in waiting.popleft()]
        finally:
            pool.shutdown(cancel_futures=True)
