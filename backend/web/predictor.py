"""The served engine: from a task to the prediction that Label Studio shows."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from backend.errors import BackendError, BadImage
from backend.label_studio.client import Task
from backend.project.config import ProjectConfig
from backend.project.folder import ProjectFolder
from backend.project.unreadable import Unreadable
from backend.project.workplace import ProjectFacts, Workplace, open_workplace
from backend.rounds.engines import load_engine
from backend.rounds.first_queue import FIRST_VERSION
from backend.rounds.folder import has_smart_tool
from backend.rounds.image_keys import image_key
from backend.rounds.judging import BOXES
from backend.rounds.new_tasks import late_score
from backend.rounds.scoring import Scorer, device_of_engine, task_seed
from backend.rounds.snapshots import split_of
from backend.rounds.task_queue import shown_regions
from backend.settings import Settings
from backend.web.assistant import Assistant, choose_outliner
from backend.web.interactive import read_context
from model.engines.base import Engine
from model.errors import ModelError, NoOutline, is_gpu_failure, is_out_of_memory
from model.rankings import RankedTask, RowFinder

logger = logging.getLogger(__name__)

Result = dict[str, Any] | list[Any]

KEPT_ON_GPU = 3
"""Engines that stay on a GPU, with what they have seen of images: rounds need its memory, too."""


@dataclass
class _Served:
    """A version as it answers under some settings of its project."""

    version: str
    config: ProjectConfig
    engine: Engine | None = None
    assistant: Assistant | None = None

    @property
    def is_on_gpu(self) -> bool:
        return self.engine is not None and device_of_engine(self.engine).type == "cuda"


class Predictor:
    """Answers `/predict` for all projects: one engine a project, loaded when needed, one task at a time.

    A GPU keeps those of the projects that asked last. `start_anew` has the process replaced by another one, where
    its GPU has failed.
    """

    def __init__(self, settings: Settings, start_anew: Callable[[], None] | None = None) -> None:
        self.settings = settings
        self._start_anew = start_anew
        self._served: dict[str, _Served] = {}
        self._looked_at: dict[str, str] = {}
        self._lock = threading.Lock()
        self._finder = RowFinder()

    def version(self, folder: ProjectFolder) -> str:
        """Name of the served version; reads the registry's `current` file and nothing else."""
        return folder.registry.current() or FIRST_VERSION

    def read_ahead(self, folder: ProjectFolder) -> None:
        """Read a newly served engine in the background where boxes are drawn, so that no box waits for it.

        Called at each event: looks once at each version. What cannot be read of a project is told where it is needed.
        """
        try:
            self._look_ahead(folder)
        except (BackendError, ModelError) as err:
            logger.warning("project %s is not read ahead: %s", folder.uid, err)

    def _look_ahead(self, folder: ProjectFolder) -> None:
        version = folder.registry.current()
        if version is None or self._looked_at.get(folder.uid) == version:
            return
        self._looked_at[folder.uid] = version
        served = self._served.get(folder.uid)
        if (served is not None and served.engine is not None) or has_smart_tool(folder):
            threading.Thread(target=self._read, args=(folder, version), name=f"read {folder.uid}", daemon=True).start()

    def _read(self, folder: ProjectFolder, version: str) -> None:
        try:
            place = open_workplace(self.settings, folder)
            with self._lock:
                served = self._load(place, version)
                if served.engine is None:
                    engine = self._engine(place, served)
                    engine.features(np.zeros((64, 64, 3), np.uint8))  # the first image of all takes longer
        except (BackendError, ModelError) as err:
            logger.warning("%s of project %s could not be read ahead: %s", version, folder.uid, err)
        except (RuntimeError, MemoryError) as err:
            self._pass_over(err, f"{version} of project {folder.uid} is not read ahead")

    def predict(self, folder: ProjectFolder, tasks: Sequence[Task], project: ProjectFacts) -> list[Result]:
        """One result per task, in order; `[]` where there is no version yet or the image cannot be read.

        A task that the served version has ranked gets the stored prediction, any other is scored now.
        """
        version = folder.registry.current()
        if version is None:
            return [[] for _ in tasks]
        place = open_workplace(self.settings, folder, project)
        ranking: tuple[RankedTask, ...] | None = None
        results: list[Result] = []
        for task in tasks:
            stored = folder.registry.ranked_task(version, task.id, self._finder)
            if stored is not None:
                results.append(_result(stored.regions, stored.score, version))
                continue
            if ranking is None:
                ranking = folder.registry.read_ranking(version, with_regions=False)
            results.append(self._score(place, version, task, ranking))
        return results

    def assist(self, folder: ProjectFolder, task: Task, project: ProjectFacts, context: Mapping[str, Any]) -> Result:
        """The outlines of the objects in the box, or under the points, that were just drawn; the log says why none.

        What was computed of the image is kept, so that its further boxes and clicks cost far less.
        """
        version = self.version(folder)
        place = open_workplace(self.settings, folder, project)
        try:
            asked = read_context(context, place.labels)
            if asked is None:
                return {"result": []}
            uri = place.labels.image_value.of(task.data)
            image = None if self._sees(folder, version, image_key(place, uri)) else place.images.load(uri, task.id)
            with self._lock:
                assistant = self._assistant(place, self._load(place, version))
                load = partial(place.images.load, uri, task.id) if image is None else lambda: image
                regions = assistant.answer(asked, image_key(place, uri), load, place.labels)
        except NoOutline as err:
            logger.warning("nothing is outlined on task %d: %s", task.id, err)
            return {"result": []}
        except (BackendError, ModelError) as err:
            logger.error("what was drawn on task %d gets no outline: %s", task.id, err)
            return {"result": []}
        except (RuntimeError, MemoryError) as err:
            self._pass_over(err, f"what was drawn on task {task.id} gets no outline")
            return {"result": []}
        return {"result": regions, "model_version": version}

    def _assistant(self, place: Workplace, served: _Served) -> Assistant:
        if served.assistant is None:
            if served.version == FIRST_VERSION:
                served.assistant = Assistant(choose_outliner(None))
            else:
                trial = place.folder.registry.get(served.version).metrics.get(BOXES)
                served.assistant = Assistant(choose_outliner(self._engine(place, served), trial))
        return served.assistant

    def _sees(self, folder: ProjectFolder, version: str, key: str) -> bool:
        """Whether a version has the image of that key at hand, from the last boxes and clicks."""
        served = self._served.get(folder.uid)
        if served is None or served.version != version or served.assistant is None:
            return False
        return served.assistant.sees(key)

    def _load(self, place: Workplace, version: str) -> _Served:
        served = self._served.pop(place.folder.uid, None)
        if served is None or (served.version, served.config) != (version, place.config):
            served = _Served(version, place.config)
        self._served[place.folder.uid] = served  # who asked last comes last
        return served

    def _engine(self, place: Workplace, served: _Served) -> Engine:
        if served.engine is None:
            served.engine = load_engine(place, served.version)
            self._make_room()
        return served.engine

    def _make_room(self) -> None:
        on_gpu = [uid for uid, served in self._served.items() if served.is_on_gpu]
        for uid in on_gpu[:-KEPT_ON_GPU]:
            del self._served[uid]
            _give_back_memory()

    def _score(self, place: Workplace, version: str, task: Task, ranking: Sequence[RankedTask]) -> Result:
        """A task's prediction; for each the lock anew, so that an annotator's box does not wait for a long list.

        It is not held while the image is fetched: for a slow server wait only those who ask for its images.
        """
        unreadable = Unreadable(place.folder.path)
        try:
            image = place.images.load(place.labels.image_value.of(task.data), task.id)
            with self._lock:
                unreadable.clear(task.id)
                engine = self._engine(place, self._load(place, version))
                scorer = Scorer(engine, place.labels, place.config.scoring_config())
                [scored] = scorer.images([image], [task_seed(version, task.id)])
        except BadImage as err:
            with self._lock:
                unreadable.note(task.id, err)
            return []
        except (BackendError, ModelError) as err:
            logger.error("task %d gets no prediction: %s", task.id, err)
            return []
        except (RuntimeError, MemoryError) as err:
            self._pass_over(err, f"task {task.id} gets no prediction")
            return []
        split = split_of(task.data, task.id, place.folder.uid)
        regions = shown_regions(scored.regions, split, place.config)
        return _result(regions, late_score(place, scored, ranking), version)

    def _pass_over(self, err: RuntimeError | MemoryError, told: str) -> None:
        """Log that memory ran out or the GPU failed, which the next try may be spared; raise any other error again."""
        if is_gpu_failure(err) and self._start_anew is not None:
            logger.error("%s now, the GPU failed, and this process is replaced by another one: %s", told, err)
            self._start_anew()
        elif is_out_of_memory(err):
            logger.error("%s now, other work fills the memory: %s", told, err)
            traceback.clear_frames(err.__traceback__)  # they hold what was computed until then
            _give_back_memory()
        else:
            raise err


def _give_back_memory() -> None:
    """Let other processes have what torch keeps of a GPU's memory and does not use."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _result(regions: list[dict[str, Any]], score: float, version: str) -> Result:
    return {"result": regions, "score": score, "model_version": version}
