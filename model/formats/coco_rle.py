"""Masks as COCO's run lengths (RLE), which run down the columns, of pixels outside and inside in turn."""

from __future__ import annotations

from typing import Any

import numpy as np

from model.errors import BadRecord
from model.formats.masks import check_runs

Size = tuple[int, int]

LONGEST_BITS = 60
"""Of a run: longer numbers would take hours to put together."""


def rle_to_mask(rle: dict[str, Any], size_hw: Size) -> np.ndarray:
    """Mask (h, w) bool of a compressed (text) or uncompressed (list) RLE.

    Raises BadRecord if it is broken or of another size; KeyError without its size or counts.
    """
    height, width = size_hw
    if list(rle["size"]) != [height, width]:
        image = f"its image [{height}, {width}] (height, width)"
        raise BadRecord(f"its mask has the size {rle['size']}, {image}; write the size of the mask that was encoded")
    counts = rle["counts"]
    runs = np.asarray(counts, np.int64) if isinstance(counts, list) else _runs(counts)
    check_runs(runs, height * width, "its RLE", "its image")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def is_runs(numbers: list[Any], size_hw: Size) -> bool:
    """Whether numbers are an uncompressed RLE's: they sum up to the pixels of the image, with one beyond its sides."""
    is_whole = all(isinstance(number, int) for number in numbers)
    return is_whole and sum(numbers) == size_hw[0] * size_hw[1] and max(numbers) > max(size_hw)


def _runs(text: str) -> np.ndarray:
    """Run lengths of COCO's compressed RLE, checked here because its C library reads past the end of a broken one.

    Each number is cut into groups of 5 bits, lowest first, each a character from "0" on with bit 6 set if more
    follow; from the third run on it is the difference from the run two before (rleFrString in maskApi.c).
    """
    if text.startswith(("b'", 'b"')):
        raise BadRecord(
            "its counts are bytes as Python shows them, b'...'; write them with .decode() and not with str()"
        )
    runs: list[int] = []
    value = shift = 0
    for code in (ord(character) - 48 for character in text):
        if not 0 <= code < 64:
            raise BadRecord("its compressed RLE holds a character that does not belong there; export the file again")
        if shift > LONGEST_BITS:
            raise BadRecord("its compressed RLE holds a number larger than any image; export the file again")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift  # negative number
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise BadRecord("its compressed RLE is cut off; export the file again")
    return np.array(runs, np.int64)
