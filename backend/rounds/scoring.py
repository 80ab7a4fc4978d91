"""Images scored by an engine: their certainty by MC dropout, their pre-labels, and what strategies know of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch

from backend.errors import BadImage
from backend.label_studio.client import Task
from backend.label_studio.labels import LabelConfig
from backend.label_studio.predictions import instances_to_regions
from backend.project.unreadable import Unreadable
from backend.project.workplace import Workplace
from backend.rounds.scored import Scored as Scored  # part of this module's interface
from backend.rounds.seen_objects import Onlooker
from model.engines.base import Engine
from model.engines.batching import in_halves
from model.engines.pasting import smooth
from model.geometry import box_of
from model.instances import Instances
from sampling.mc_dropout import ScoringConfig, score

IMAGES_AT_ONCE = {"cpu": 2, "cuda": 8}
"""Images that are computed together; a batch for which memory lacks splits itself."""

LOADERS = 4
"""Threads that fetch and decode the next images meanwhile."""


class Failures(Protocol):
    """Takes which images cannot be read; a project's `Unreadable` keeps them."""

    def note(self, task_id: int, err: BadImage) -> None:
        """An image could not be read."""
        ...

    def clear(self, task_id: int) -> None:
        """It was read."""
        ...


@dataclass(frozen=True, eq=False)
class Scorer:
    """Scores images by an engine; `onlooker` adds what the untouched backbone sees."""

    engine: Engine
    labels: LabelConfig
    config: ScoringConfig
    onlooker: Onlooker | None = None

    def images(self, images: Sequence[np.ndarray], seeds: Sequence[int]) -> list[Scored]:
        """Backbone and proposals once, then the ordinary prediction for the regions, the passes for the certainty.

        By halves where memory lacks, also for what comes after the encoding while all of a batch is kept.
        """
        return in_halves(self._all, list(zip(images, seeds, strict=True)))

    def _all(self, some: Sequence[tuple[np.ndarray, int]]) -> list[Scored]:
        encoded = self.engine.encode([image for image, _ in some], exact=self.config.exact)
        return [self._one(image, one, seed) for (image, seed), one in zip(some, encoded, strict=True)]

    def _one(self, image: np.ndarray, encoded: Any, seed: int) -> Scored:
        """One image; an object that is surely there is outlined even if its class is in doubt."""
        engine, controls = self.engine, self.labels.controls
        usual = engine.config.confidence_threshold
        lowest = min(usual if c.score_threshold is None else c.score_threshold for c in controls)
        instances = smoothed(engine.decode(encoded, confidence_threshold=lowest, any_class=True))
        generator = torch.Generator(device_of_engine(engine)).manual_seed(seed)
        found = score(engine, encoded, self.config, generator)
        return Scored(
            None if np.isnan(found.certainty) else found.certainty,
            instances_to_regions(instances, engine.classes, self.labels, score_threshold=usual),
            tuple(found.class_counts.round(4).tolist()),
            tuple(engine.embedding(encoded).round(4).tolist()),
            self.onlooker.look(engine, encoded, image, generator) if self.onlooker else None,
        )


def score_tasks(
    place: Workplace, engine: Engine, version: str, tasks: Sequence[Task], onlooker: Onlooker | None = None
) -> Iterator[tuple[Task, Scored | None]]:
    """Score tasks one batch after the other, the next images being loaded meanwhile.

    None stands for a task whose image cannot be read, which is noted for `maskal status`.
    """
    scorer = Scorer(engine, place.labels, place.config.scoring_config(), onlooker)
    return score_by(scorer, place, version, tasks, Unreadable(place.folder.path))


def score_by(
    scorer: Scorer, place: Workplace, version: str, tasks: Sequence[Task], failures: Failures
) -> Iterator[tuple[Task, Scored | None]]:
    """As `score_tasks`, by a scorer of the version; `failures` takes what cannot be read, and what can."""
    at_once = images_at_once(scorer.engine)
    with ThreadPoolExecutor(LOADERS, "load") as loaders:
        batches = [tasks[start : start + at_once] for start in range(0, len(tasks), at_once)]
        coming = [_load(place, loaders, batch) for batch in batches[:1]]
        for index, batch in enumerate(batches):
            coming += [_load(place, loaders, following) for following in batches[index + 1 : index + 2]]
            images: dict[int, np.ndarray] = {}
            for task, future in zip(batch, coming.pop(0), strict=True):
                try:
                    images[task.id] = future.result()
                    failures.clear(task.id)
                except BadImage as err:
                    failures.note(task.id, err)
            seeds = [task_seed(version, task) for task in images]
            scored = scorer.images(list(images.values()), seeds)
            found = dict(zip(images, scored, strict=True))
            yield from ((task, found.get(task.id)) for task in batch)


def _load(place: Workplace, loaders: ThreadPoolExecutor, tasks: Sequence[Task]) -> list[Future[np.ndarray]]:
    value = place.labels.image_value
    return [loaders.submit(place.images.load, value.of(task.data), task.id) for task in tasks]


def images_at_once(engine: Engine) -> int:
    """How many images an engine computes together on its device."""
    return IMAGES_AT_ONCE["cuda" if device_of_engine(engine).type == "cuda" else "cpu"]


def device_of_engine(engine: Engine) -> torch.device:
    """Where an engine computes."""
    device: torch.device = next(engine.network.parameters()).device
    return device


def smoothed(instances: Instances) -> Instances:
    """The instances with masks that are worth showing; see `smooth`.

    Pixels without an object are not written, so that they take no memory: those of a large photo would fill it.
    """
    masks = np.zeros(instances.masks.shape, bool)
    for shown, mask, box in zip(masks, instances.masks, instances.boxes_xyxy, strict=True):
        smoother = smooth(mask, box)
        x0, y0, x1, y1 = box_of(smoother).astype(int)
        shown[y0:y1, x0:x1] = smoother[y0:y1, x0:x1]
    return replace(instances, masks=masks)


def task_seed(version: str, task_id: int) -> int:
    """Seed of a task's passes: the same version gives a task the same certainty again."""
    return int.from_bytes(hashlib.sha256(f"{version}:{task_id}".encode()).digest()[:6], "big")
