"""What answers one project's smart tools: an outliner, and what it keeps from one box or click to the next."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from backend.label_studio.annotations import Region
from backend.label_studio.labels import LabelConfig
from backend.label_studio.predictions import mask_to_regions
from backend.rounds.judging import GRABCUT, NETWORK
from backend.web.interactive import SmartBox, SmartPoints
from model.engines.base import Engine
from model.errors import NoOutline
from model.geometry import box_of
from model.outlining.base import Outliner
from model.outlining.grabcut import GrabCut
from model.outlining.network import NetworkOutliner

KEPT_IMAGES = 3
"""Images that are kept as the outliner sees them, per project: the one at hand and those just left."""


def choose_outliner(engine: Engine | None, trial: Mapping[str, Any] | None = None) -> Outliner:
    """Who answers: the served version's network, or GrabCut while there is none.

    Boxes are GrabCut's, too, where it was better at them when the version was measured (`rounds.judging`).
    """
    if engine is None:
        return GrabCut()
    is_better = trial is None or trial[NETWORK] >= trial[GRABCUT]
    return NetworkOutliner(engine, otherwise=GrabCut(), is_better_at_boxes=is_better)


@dataclass(frozen=True, eq=False)
class _Seen:
    size_hw: tuple[int, int]
    look: Any


class Assistant:
    """Outlines what is drawn with the smart tools; remembers the images at hand and how large a label's boxes are."""

    def __init__(self, outliner: Outliner) -> None:
        self._outliner = outliner
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._sides: dict[str, float] = {}

    def sees(self, key: str) -> bool:
        """Whether the image of that key is one of those at hand."""
        return key in self._seen

    def answer(
        self, asked: SmartBox | SmartPoints, key: str, load: Callable[[], np.ndarray], config: LabelConfig
    ) -> list[Region]:
        """Regions of what was asked for on the image of that key, of the best control that offers its label.

        A label that the outliner does not know is outlined as whatever is there. NoOutline if there is no object.
        """
        seen = self._see(key, load)
        known = [index for index, name in enumerate(self._outliner.classes) if config.label_for(name) == asked.label]
        masks = self._masks(asked, seen, known[0] if known else None)
        objects = [mask_to_regions(m, box_of(m), asked.label, config, secrets.token_urlsafe(7)) for m in masks]
        return [region for regions in objects for region in regions]

    def _masks(self, asked: SmartBox | SmartPoints, seen: _Seen, label: int | None) -> list[np.ndarray]:
        if isinstance(asked, SmartBox):
            box = asked.on(seen.size_hw)
            mask = self._outliner.in_box(seen.look, box, label)
            self._sides[asked.label] = float(np.max(box[2:] - box[:2]))
            return [mask]
        return self._at_points(asked, seen, label)

    def _at_points(self, asked: SmartPoints, seen: _Seen, label: int | None) -> list[np.ndarray]:
        """One mask for each object that was clicked; NoOutline if none of the clicks is on one."""
        found: list[np.ndarray] = []
        refusal = NoOutline("all points are beside the object; click on it, too")
        for click in asked.on(seen.size_hw, self._sides.get(asked.label)):
            column, row = np.floor(click.point_xy).astype(int).clip(0, np.array(seen.size_hw[::-1]) - 1)
            if any(mask[row, column] for mask in found):
                continue
            try:
                found.append(self._outliner.at_point(seen.look, click, label))
            except NoOutline as err:
                refusal = err
        if not found:
            raise refusal
        return found

    def _see(self, key: str, load: Callable[[], np.ndarray]) -> _Seen:
        seen = self._seen.pop(key, None)
        if seen is None:
            image = load()
            seen = _Seen(image.shape[:2], self._outliner.look(image))
        self._seen[key] = seen
        while len(self._seen) > KEPT_IMAGES:
            self._seen.popitem(last=False)
        return seen
