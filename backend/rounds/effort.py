"""What annotating has cost and what pre-labels have saved of it, as far as the receipt has ground for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from backend.rounds.first_queue import FIRST_VERSION
from backend.rounds.receipt import Line

ENOUGH = 5
"""Annotations of a kind from which on their median time is told."""


@dataclass(frozen=True)
class Effort:
    """First figures of a receipt; None is "not measured".

    images             annotations that began with outlines of a version, of those whose origin is known
    blank_images       annotations that somebody began with an empty image
    unknown_images     annotations of unknown origin: those of before the receipt, and imported ones (without a time)
    kept, ..., added   outlines of `images` (see `Corrections`), and how many were drawn beside them
    iou                mean IoU of the outlines that are still there with what they were
    seconds, blank_seconds  median time for one of `images`, and of `blank_images`
    """

    images: int = 0
    blank_images: int = 0
    unknown_images: int = 0
    kept: int = 0
    moved: int = 0
    relabelled: int = 0
    deleted: int = 0
    added: int = 0
    iou: float | None = None
    seconds: float | None = None
    blank_seconds: float | None = None

    @property
    def proposed(self) -> int:
        """Outlines that were proposed."""
        return self.kept + self.moved + self.relabelled + self.deleted


def effort_of(lines: Iterable[Line]) -> Effort:
    """The figures of a receipt's newest lines, one for each annotation; `maskal-r0` counts as no pre-label."""
    known, unknown = [], 0
    for line in lines:
        if line.is_known and (line.version is not None or line.lead_time_s):
            known.append(line)
        else:
            unknown += 1
    begun = [(line, line.corrections) for line in known if line.corrections and line.version != FIRST_VERSION]
    helped = [(line, found) for line, found in begun if found.proposed]
    with_outlines = {line.annotation for line, _ in helped}
    blank = [line for line in known if line.annotation not in with_outlines]
    shares = [(found.iou, found.proposed - found.deleted) for _, found in helped if found.iou is not None]
    weight = sum(count for _, count in shares)
    return Effort(
        images=len(helped),
        blank_images=len(blank),
        unknown_images=unknown,
        kept=sum(found.kept for _, found in helped),
        moved=sum(found.moved for _, found in helped),
        relabelled=sum(found.relabelled for _, found in helped),
        deleted=sum(found.deleted for _, found in helped),
        added=sum(found.added for _, found in helped),
        iou=sum(iou * count for iou, count in shares) / weight if weight else None,
        seconds=_median_s(line for line, _ in helped),
        blank_seconds=_median_s(blank),
    )


def _median_s(lines: Iterable[Line]) -> float | None:
    """The median time; None below ENOUGH annotations with one: imported ones have none."""
    times = [line.lead_time_s for line in lines if line.lead_time_s]
    return median(times) if len(times) >= ENOUGH else None
