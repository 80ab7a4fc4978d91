"""Images thinned out until one class has a wanted share of their objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backend.errors import BadSetting
from model.records import Record


@dataclass(frozen=True)
class Imbalance:
    """How much of all objects is to be of one class, 0..1 without the ends."""

    label: str
    share: float

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise BadSetting(f"imbalance must be CLASS=SHARE with a share between 0 and 1, got {self.share:g}")


def read_imbalance(text: str) -> Imbalance:
    """CLASS=SHARE, as in `healthy=0.8`; BadSetting for anything else."""
    try:
        label, share = text.rsplit("=", 1)
        return Imbalance(label, float(share))
    except ValueError as err:
        raise BadSetting(f"imbalance must be CLASS=SHARE such as healthy=0.8, got {text!r}") from err


def thinned(records: Sequence[Record], indices: Sequence[int], wanted: Imbalance, seed: int) -> list[int]:
    """Those of the indices, in their order, that are left when just enough have gone at random.

    Images go that show the class less than wanted where it is too rare, else those that show it more. Raises
    BadSetting if none of the images shows the class.
    """
    shown = {index: _of_class(records[index], wanted.label) for index in indices}
    excess = {index: shown[index] - wanted.share * len(records[index].outlines) for index in indices}
    if not any(shown.values()):
        raise BadSetting(f"none of the images to choose from shows {wanted.label!r}; choose a class for --imbalance")
    total = sum(excess.values())
    sense = 1 if total < 0 else -1  # what is too rare gains by the images that go
    gone = set[int]()
    for index in np.random.default_rng(seed).permutation(list(indices)).tolist():
        if sense * total < 0 and sense * excess[index] < 0:
            total -= excess[index]
            gone.add(index)
    return [index for index in indices if index not in gone]


def _of_class(record: Record, label: str) -> int:
    return sum(outline.label == label for outline in record.outlines)
