"""The served engine: from a task to the prediction that Label Studio shows."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from backend.client import Task
from backend.errors import BackendError
from backend.learning import load_engine
from backend.projects import ProjectFolder
from backend.rounds import late_score, score_task
from backend.settings import Settings
from backend.snapshots import split_of
from backend.task_queue import FIRST_VERSION, shown_regions
from backend.workplace import Workplace, open_workplace
from model.engines.base import Engine
from model.errors import ModelError
from model.rankings import RankedTask

logger = logging.getLogger(__name__)

Result = dict[str, Any] | list[Any]


@dataclass
class _Served:
    version: str
    ranking: dict[int, RankedTask]
    engine: Engine | None = None


class Predictor:
    """Answers `/predict` for all projects: one engine a project, loaded when needed, one thread at a time."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._served: dict[str, _Served] = {}
        self._lock = threading.Lock()

    def version(self, folder: ProjectFolder) -> str:
        """Name of the served version; reads the registry's `current` file and nothing else."""
        return folder.registry.current() or FIRST_VERSION

    def predict(self, folder: ProjectFolder, tasks: Sequence[Task], label_config: str) -> list[Result]:
        """One result per task, in order; `[]` where there is no version yet or the image cannot be read.

        A task that the served version has ranked gets the stored prediction, any other is scored now.
        """
        version = folder.registry.current()
        if version is None:
            return [[] for _ in tasks]
        place = open_workplace(self.settings, folder, label_config)
        with self._lock:
            served = self._load(folder, version, [task.id for task in tasks])
            return [self._answer(place, served, task) for task in tasks]

    def _load(self, folder: ProjectFolder, version: str, tasks: Sequence[int]) -> _Served:
        served = self._served.get(folder.uid)
        if served is None or served.version != version:
            served = self._served[folder.uid] = _Served(version, {})
        if not set(tasks) <= served.ranking.keys():
            served.ranking = {row.task: row for row in folder.registry.read_ranking(version)}
        return served

    def _answer(self, place: Workplace, served: _Served, task: Task) -> Result:
        stored = served.ranking.get(task.id)
        if stored is not None:
            return {"result": stored.regions, "score": stored.score, "model_version": served.version}
        try:
            if served.engine is None:
                served.engine = load_engine(place, served.version)
            scored = score_task(place, served.engine, served.version, task)
        except (BackendError, ModelError) as err:
            logger.error("task %d gets no prediction: %s", task.id, err)
            return []
        if scored is None:
            return []
        score = late_score(place, scored, tuple(served.ranking.values()))
        split = split_of(task.data, task.id, place.folder.uid)
        regions = shown_regions(scored.regions, split, place.config)
        return {"result": regions, "score": score, "model_version": served.version}
