from __future__ import annotations

import threading
from itertools import islice

import numpy as np
import pytest

from model.training.dataset import Showing
from model.training.showings import read_ahead, showings


def order(seed: int, start: int = 0, images: int = 10) -> list[Showing]:
    return list(islice(showings(np.ones(images), seed, start), 40))


def test_every_image_comes_once_an_epoch() -> None:
    shown = [showing.index for showing in order(1, images=8)]
    assert [sorted(shown[i : i + 8]) for i in range(0, 40, 8)] == [list(range(8))] * 5
    assert shown[:8] != shown[8:16]


def test_images_come_as_often_as_their_factor_says() -> None:
    shown = [showing.index for showing in islice(showings(np.array([1, 2, 0.5]), 1), 7000)]
    assert np.bincount(shown) == pytest.approx([2000, 4000, 1000], rel=0.05)


def test_the_order_follows_the_seed() -> None:
    assert order(1) == order(1) != order(2)
    assert len({showing.seed for showing in order(1)}) == 40, "no image is changed twice in the same way"
    assert not {showing.seed for showing in order(1)} & {showing.seed for showing in order(2)}


def test_a_later_start_continues_the_same_order() -> None:
    assert order(1, start=13)[:20] == order(1)[13:33]


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_batches_come_in_order(threads: int) -> None:
    items = iter([Showing(index) for index in range(7)])
    found = list(read_ahead(items, 3, lambda item: item.index * 10, threads))
    assert found == [[0, 10, 20], [30, 40, 50], [60]]


def test_the_next_batches_are_read_meanwhile() -> None:
    read = threading.Semaphore(0)

    def note(item: Showing) -> int:
        read.release()
        return item.index

    batches = read_ahead(showings(np.ones(5), 1), 2, note, 1)
    next(batches)
    for _ in range(6):
        assert read.acquire(timeout=10), "two batches beyond the one at hand"
    batches.close()


@pytest.mark.parametrize("threads", [0, 2])
def test_an_error_comes_with_its_batch(threads: int) -> None:
    def read(item: Showing) -> int:
        if item.index == 3:
            raise OSError("image 3 is gone")
        return item.index

    batches = read_ahead(iter([Showing(index) for index in range(4)]), 2, read, threads)
    assert next(batches) == [0, 1]
    with pytest.raises(OSError, match="image 3"):
        next(batches)
