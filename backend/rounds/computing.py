"""What a look at a project computes with torch, where there is anything to compute."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from backend.label_studio.client import Task
from backend.project.feature_cache import FeatureCache
from backend.project.workplace import Workplace
from backend.rounds.devices import device_of
from backend.rounds.engines import load_engine
from backend.rounds.scored import Scored
from backend.rounds.scoring import score_tasks
from backend.settings import Settings


def score(place: Workplace, version: str, tasks: Sequence[Task]) -> Iterator[tuple[Task, Scored | None]]:
    """Let a version score tasks; None stands for a task whose image cannot be read."""
    return score_tasks(place, load_engine(place, version), version, tasks)


def open_feature_cache(place: Workplace, settings: Settings | None = None) -> FeatureCache:
    """The features of the untouched backbone that all projects share; without settings it is kept small by others."""
    folder = place.folder.data_dir / "cache" / "features"
    return FeatureCache(folder, settings.feature_cache_gb * 1e9 if settings else math.inf, device_of(place))
