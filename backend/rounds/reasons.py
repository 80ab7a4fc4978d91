"""Why each task stands at its place in the queue, in words: kept with the ranking, told by status and page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from backend.rounds.copies_last import copy_in_words
from backend.rounds.scored import Scored
from model.rankings import RankedTask

IN_DOUBT = 0.5
"""Uncertainty of an object from which on its two likeliest classes are the reason."""

SHOWN = 0.5
"""Objects of a class that an image has to show for the class to be the reason."""

RARE = 0.5
"""Share of what each class would have if all were as common, below which one is rare."""

BY_CLASSES = ("class_aware", "stratified")
"""Strategies in which the classes take turns with their least certain images."""


@dataclass(frozen=True, eq=False)
class Reasons:
    """The reasons of one ranking.

    classes      of the version, in the order of the scores' counts
    scored       what the version made of the tasks
    certainties  (n,) of those that have one, ascending
    """

    strategy: str
    classes: Sequence[str]
    scored: Mapping[int, Scored]
    certainties: np.ndarray

    @classmethod
    def of(cls, strategy: str, classes: Sequence[str], scored: Mapping[int, Scored]) -> Reasons:
        """Those for tasks that were scored."""
        return cls(
            strategy, classes, scored, np.sort([s.certainty for s in scored.values() if s.certainty is not None])
        )

    def told(self, rows: Iterable[RankedTask]) -> tuple[RankedTask, ...]:
        """A queue's tasks, each with the reason for its place."""
        return tuple(replace(row, reason=self.reason(row)) for row in rows)

    def reason(self, row: RankedTask) -> str:
        """Why a task stands at its place."""
        return _by_rule(row, self.strategy) or self._by_look(row)

    def _by_look(self, row: RankedTask) -> str:
        """The reason of a strategy that looks at what the version finds."""
        doubt = _doubt_in_words(self._surer_share(row))
        scored = self.scored.get(row.task)
        if scored is None:
            return doubt
        if self.strategy == "coverage":
            return self._of_objects(scored) or "unlike what is annotated"
        if self.strategy in BY_CLASSES:
            return f"{self._class_of(scored)}; {doubt}"
        return f"unlike those before it; {doubt}" if self.strategy == "diverse" else doubt

    def _surer_share(self, row: RankedTask) -> float:
        """Which share of the others the version is surer of, 0..1."""
        lower = np.searchsorted(self.certainties, 1.0 if row.certainty is None else row.certainty, "right")
        others = len(self.certainties) - 1
        return float((len(self.certainties) - lower) / others) if others > 0 else 1.0

    def _class_of(self, scored: Scored) -> str:
        """Whose turn an image most likely is: that of the rarest class that it shows."""
        shown = [name for name, count in zip(self.classes, scored.class_counts, strict=False) if count >= SHOWN]
        if not shown:
            return "its class's turn"
        if self._rarest in shown:
            return f"rare class {self._rarest}"
        return f"the turn of {shown[0]}" if len(shown) == 1 else f"the turn of {' or '.join(shown[:2])}"

    def _of_objects(self, scored: Scored) -> str:
        """What the least certain object is in doubt about; empty where all are sure."""
        if scored.seen is None or not len(scored.seen.objects):
            return ""
        objects = scored.seen.objects
        worst = int(np.argmax(objects.uncertainties))
        if objects.uncertainties[worst] < IN_DOUBT or len(self.classes) < 2:
            return ""
        second, first = np.argsort(objects.probabilities[worst], kind="stable")[-2:]
        if objects.probabilities[worst][first] == objects.probabilities[worst][second]:
            return ""  # a patch in which nothing was found
        return f"{self.classes[first]} or {self.classes[second]}?"

    @cached_property
    def _rarest(self) -> str | None:
        """The class of which the open images show the least, of those that they show; None where that is not rare."""
        rows = [s.class_counts for s in self.scored.values() if len(s.class_counts) == len(self.classes)]
        totals = np.sum(rows, 0) if rows else np.zeros(len(self.classes))
        there = [(total, name) for total, name in zip(totals, self.classes, strict=True) if total >= SHOWN]
        usual = sum(total for total, _ in there) / max(1, len(there))
        return next((name for total, name in sorted(there) if total < RARE * usual), None)


def _doubt_in_words(surer_share: float) -> str:
    if surer_share == 1:
        return "the least certain of the open images"
    return f"less certain than {min(99, round(100 * surer_share))} % of the open images"


def _by_rule(row: RankedTask, strategy: str) -> str:
    """The reason of a task whose place does not follow from what the version is sure of; else empty."""
    if row.copy_of is not None:
        return copy_in_words(row.copy_of)
    if row.split != "train":
        return f"a {'validation' if row.split == 'val' else row.split} image, by chance"
    if row.is_control:
        return "drawn at random, as the control group"
    if strategy in ("random", "random_foreground"):
        return "drawn at random"
    if strategy == "class_turns":
        return "its class's turn, drawn at random within it"
    if row.certainty is None and strategy != "coverage":
        return "nothing was found in it"
    return "one of the most certain" if strategy == "certainty" else ""
