"""Images with a share of each class: strata, and a split into images to learn from and to test on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from model.records import Record


def strata(records: Sequence[Record]) -> list[list[int]]:
    """Indices by class, an image counting for its rarest one."""
    counts = Counter(label for record in records for label in {o.label for o in record.outlines})
    found: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        labels = {o.label for o in record.outlines}
        found.setdefault(min(labels, key=lambda label: (counts[label], label), default=""), []).append(index)
    return [members for _, members in sorted(found.items())]


def stratified_split(records: Sequence[Record], test_share: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices to learn from and to test on: of each class the same share, an image counting for its rarest one."""
    rng = np.random.default_rng(seed)
    shuffled = [[members[i] for i in rng.permutation(len(members))] for members in strata(records)]
    test = {index for members in shuffled for index in members[: round(test_share * len(members))]}
    return [index for index in range(len(records)) if index not in test], sorted(test)
