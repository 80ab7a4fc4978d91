from __future__ import annotations

from typing import Any

import pytest
import torch

from backend.label_studio.client import Task
from backend.settings import Settings
from backend.web.predictor import Predictor, _Served
from tests.backend.outlined_photos import network


@pytest.fixture
def answer(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """What a task is answered where scoring ends with an error."""

    def answered(error: Exception) -> Any:
        def fail(*arguments: object) -> None:
            raise error

        monkeypatch.setattr("backend.web.predictor.score_tasks", fail)
        predictor, place = Predictor(Settings(data_dir=tmp_path)), object()
        return predictor._score(place, _Served("maskal-r1", network()), Task(1, {}, False), ())  # type: ignore[arg-type]

    return answered


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()], ids=["gpu", "host"])
def test_while_a_round_fills_the_memory_a_task_gets_no_prediction(
    answer, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    assert answer(error) == []
    assert "task 1 gets no prediction now, other work fills the memory" in caplog.text


def test_other_errors_of_torch_are_not_hidden(answer) -> None:
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        answer(RuntimeError("shapes do not fit"))
