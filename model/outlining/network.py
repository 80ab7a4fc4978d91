"""A trained network as an outliner, with another one for what it does not see."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from model.engines.base import Engine
from model.engines.pasting import smooth
from model.errors import NoOutline
from model.instances import Instances
from model.outlining.base import Click, Outliner

LEAST_SCORE = 0.05
"""A proposal at a click needs a higher one: somebody says that there is an object."""


class Look:
    """An image as a network sees it; what a box needs is computed at the first box, what a click needs at the first."""

    def __init__(self, engine: Engine, image: np.ndarray, otherwise: Outliner) -> None:
        self._engine, self._image, self._otherwise = engine, image, otherwise

    @cached_property
    def features(self) -> Any:
        """For `Engine.segment`."""
        return self._engine.features(self._image)

    @cached_property
    def encoded(self) -> Any:
        """For `Engine.decode`."""
        [encoded] = self._engine.encode([self._image])
        return encoded

    @cached_property
    def otherwise(self) -> Any:
        """For the other outliner."""
        return self._otherwise.look(self._image)


class NetworkOutliner:
    """See `base.Outliner`; `otherwise` outlines what the network does not see.

    is_better_at_boxes   the network is asked first about a box; else the other outliner is, and then the network
    """

    def __init__(self, engine: Engine, otherwise: Outliner, is_better_at_boxes: bool = True) -> None:
        self._engine, self._otherwise, self._is_better_at_boxes = engine, otherwise, is_better_at_boxes

    @property
    def classes(self) -> tuple[str, ...]:
        """The network's."""
        return self._engine.classes

    def look(self, image: np.ndarray) -> Look:
        """Nothing is computed yet."""
        return Look(self._engine, image, self._otherwise)

    def in_box(self, seen: Look, box_xyxy: np.ndarray, label: int | None) -> np.ndarray:
        """The mask head's answer for the box, or the other outliner's, whoever is asked first and has one."""
        ways = [
            lambda: self._segmented(seen, box_xyxy, label),
            lambda: self._otherwise.in_box(seen.otherwise, box_xyxy, None),
        ]
        first, second = ways if self._is_better_at_boxes else reversed(ways)
        try:
            return first()
        except NoOutline:
            return second()

    def _segmented(self, seen: Look, box_xyxy: np.ndarray, label: int | None) -> np.ndarray:
        mask = smooth(self._engine.segment(seen.features, box_xyxy, label), box_xyxy)
        if not mask.any():
            raise NoOutline("the served version sees no object that fills the box; outline it by hand")
        return mask

    def at_point(self, seen: Look, click: Click, label: int | None) -> np.ndarray:
        """The object that is predicted there, else the best proposal there, else the other outliner's answer.

        Of several the one of that label comes first, then the surest.
        """
        for threshold in (self._engine.config.confidence_threshold, LEAST_SCORE):
            found = self._engine.decode(seen.encoded, confidence_threshold=threshold, any_class=True)
            there = [index for index in range(len(found)) if _is_meant(found, index, click)]
            if there:
                best = max(there, key=lambda index: (int(found.labels[index]) == label, float(found.scores[index])))
                return smooth(found.masks[best], found.boxes_xyxy[best])
        return self._otherwise.at_point(seen.otherwise, click, None)


def _is_meant(found: Instances, index: int, click: Click) -> bool:
    """Whether an object covers the click, and none of the points that it should not cover."""
    mask = found.masks[index]
    last = np.array(mask.shape[::-1]) - 1
    points = np.floor(np.concatenate([click.point_xy[None], click.not_on_xy])).astype(int).clip(0, last)
    return bool(mask[points[0, 1], points[0, 0]]) and not mask[points[1:, 1], points[1:, 0]].any()
