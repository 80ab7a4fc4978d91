"""What a version got wrong on the validation images, as the page shows it: a round's `findings.json`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as coco_mask

from backend.project.workplace import Workplace
from backend.rounds.folder import Round
from backend.rounds.pictures import (
    CONFUSED,
    INVENTED,
    MISSED,
    RIGHT,
    Drawing,
    Picture,
    in_percent,
    keep_thumbnail,
)
from model.files import write_json
from model.geometry import mask_to_polygons
from model.judging.evaluation import Detections, Rle, Truth
from model.judging.mistakes import Mistakes, confusion_of, mistakes_in
from model.stored_json import read_as

WORST = 9
"""Validation images that are shown, those with the most mistakes."""


@dataclass(frozen=True)
class Validated:
    """What a version was measured on: tasks and addresses of the images, their truth, and what it found in them."""

    tasks: Sequence[int]
    uris: Sequence[str]
    truths: Sequence[Truth]
    found: Sequence[Detections]


@dataclass(frozen=True)
class Findings:
    """What was found on the validation images.

    confusion   how often each class (row) was found as each (column); last column: missed, last row: invented
    worst       the images with the most mistakes, the worst first
    images      number of validation images
    counts      objects that were RIGHT, CONFUSED, MISSED and INVENTED in all of them
    """

    classes: tuple[str, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    worst: tuple[Picture, ...] = ()
    images: int = 0
    counts: dict[str, int] = field(default_factory=dict)


def write_findings(
    place: Workplace,
    current: Round,
    classes: tuple[str, ...],
    validated: Validated,
    load: Callable[[str], np.ndarray],
) -> None:
    """Keep what a new version got wrong; `load` gives an image by its task's number as text."""
    threshold = place.config.confidence_threshold
    looks = [mistakes_in(t, d, threshold) for t, d in zip(validated.truths, validated.found, strict=True)]
    confusion = confusion_of(validated.truths, validated.found, looks, len(classes))
    findings = Findings(
        classes=classes,
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        worst=tuple(_worst(place, classes, validated, looks, load)),
        images=len(looks),
        counts={
            RIGHT: sum(len(look.right) for look in looks),
            CONFUSED: sum(len(look.confused) for look in looks),
            MISSED: sum(len(look.missed) for look in looks),
            INVENTED: sum(len(look.invented) for look in looks),
        },
    )
    write_json(current.path / "findings.json", asdict(findings), indent=None)


def _worst(
    place: Workplace,
    classes: tuple[str, ...],
    validated: Validated,
    looks: Sequence[Mistakes],
    load: Callable[[str], np.ndarray],
) -> Iterator[Picture]:
    order = sorted(range(len(looks)), key=lambda index: (-len(looks[index]), validated.tasks[index]))
    for index in order[:WORST]:
        if not len(looks[index]):
            return
        task, truth = validated.tasks[index], validated.truths[index]
        yield Picture(
            task=task,
            thumbnail=keep_thumbnail(place, validated.uris[index], load(str(task))),
            size_hw=truth.size_hw,
            drawings=list(_drawings(truth, validated.found[index], looks[index], classes)),
        )


def read_findings(current: Round) -> dict[str, Any] | None:
    """What `write_findings` stored (JSON); None for rounds of releases that stored nothing."""
    path = current.path / "findings.json"
    return read_as(path, dict[str, Any]) if path.exists() else None


def _drawings(truth: Truth, found: Detections, look: Mistakes, classes: tuple[str, ...]) -> Iterator[Drawing]:
    true = lambda index: classes[truth.labels[index]]  # noqa: E731
    seen = lambda index: classes[found.labels[index]]  # noqa: E731
    for index, _ in look.right:
        yield Drawing(RIGHT, true(index), _rings(truth.rles[index], truth.size_hw))
    for index, other in look.confused:
        yield Drawing(CONFUSED, f"{true(index)}, found as {seen(other)}", _rings(truth.rles[index], truth.size_hw))
    for index in look.missed:
        yield Drawing(MISSED, true(index), _rings(truth.rles[index], truth.size_hw))
    for index in look.invented:
        yield Drawing(INVENTED, seen(index), _rings(found.rles[index], truth.size_hw))


def _rings(rle: Rle, size_hw: tuple[int, int]) -> list[list[list[float]]]:
    return in_percent(mask_to_polygons(coco_mask.decode(rle).astype(bool)), size_hw)
