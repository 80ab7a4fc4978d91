"""The same predictor and rounds behind label-studio-ml's server (version 2, installed by the user).

    from backend.web.label_studio_ml import MaskAL

is all that its `model.py` has to hold. Projects are connected by `maskal connect --label-studio-ml`; training is the
worker's (`maskal worker`), as always.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from label_studio_ml.model import LabelStudioMLBase
from redis import Redis

from backend.errors import BadSetting
from backend.project.folder import ProjectFolder, find_folder
from backend.queue.connection import open_redis
from backend.queue.jobs import take_event
from backend.settings import Settings, read_settings
from backend.web.predict_call import answer, read_call
from backend.web.predictor import Predictor, Result
from backend.web.webhooks import Decision, decide


@dataclass(frozen=True, eq=False)
class _Host:
    """What all requests to one server share."""

    settings: Settings
    predictor: Predictor
    redis: Redis


@lru_cache(maxsize=1)
def _host() -> _Host:
    """Made by the first request: label-studio-ml makes a new model for each, and offers no place for what lasts."""
    settings = read_settings()
    return _Host(settings, Predictor(settings), open_redis(settings))


class MaskAL(LabelStudioMLBase):
    """One request's view of a connected project; keeps nothing in label-studio-ml's own store."""

    def __init__(self, project_id: str | None = None, label_config: str | None = None) -> None:
        self._told: dict[str, Any] = {}
        super().__init__(project_id, label_config)

    def get(self, key: str) -> Any:
        """The served version's name, or what this request told; None for anything else."""
        return _host().predictor.version(self._folder()) if key == "model_version" else self._told.get(key)

    def set(self, key: str, value: Any) -> None:
        """Keep something for the rest of the request."""
        self._told[key] = value

    def has(self, key: str) -> bool:
        """Whether this request told it."""
        return key in self._told

    def predict(
        self, tasks: Sequence[Mapping[str, Any]], context: Mapping[str, Any] | None = None, **params: Any
    ) -> list[Result]:
        """One result for each task, as our own server answers."""
        call = read_call(tasks, self.get("label_config"), {**params, "context": context})
        return answer(_host().predictor, self._folder(), call)

    def fit(self, event: str, data: Mapping[str, Any], **params: Any) -> dict[str, Any]:
        """Take an event as a hint; the work is done by a worker."""
        decision = decide({"action": event})
        if decision is Decision.IGNORE:
            return {}
        folder, host = self._folder(), _host()
        host.predictor.read_ahead(folder)
        return {"job": take_event(host.redis, folder.uid, is_forced=decision is Decision.TRAIN)}

    def _folder(self) -> ProjectFolder:
        number = str(self.project_id).partition(".")[0]
        if not number.isdigit():
            raise BadSetting(f"a request should name its project, got {self.project_id!r}; connect it in Label Studio")
        return find_folder(_host().settings.data_dir, int(number))
