from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from backend.label_studio.client import Task
from backend.project.folder import connect_folder
from backend.settings import Settings
from backend.web.predictor import Predictor, _Served
from tests.backend.outlined_photos import network
from tests.backend.web.smart_tools import CONFIG, box


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


@pytest.fixture
def drawn(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """What a drawn box is answered where outlining it ends with an error."""

    def answered(error: Exception) -> Any:
        def fail(*arguments: object) -> None:
            raise error

        place = SimpleNamespace(labels=CONFIG)
        monkeypatch.setattr("backend.web.predictor.open_workplace", lambda *arguments: place)
        monkeypatch.setattr("backend.web.assistant.Assistant.answer", fail)
        folder = connect_folder(tmp_path, "3.1700000000")
        return Predictor(Settings(data_dir=tmp_path)).assist(folder, Task(1, {}, False), None, box(1, 1, 9, 9))  # type: ignore[arg-type]

    return answered


NO_MEMORY = pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()], ids=["gpu", "host"]
)


@NO_MEMORY
def test_while_a_round_fills_the_memory_a_box_gets_no_outline(
    drawn, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    assert drawn(error) == {"result": []}
    assert "what was drawn on task 1 gets no outline now, other work fills the memory" in caplog.text


@NO_MEMORY
def test_while_a_round_fills_the_memory_a_version_is_not_read_ahead(
    tmp_path, monkeypatch: pytest.MonkeyPatch, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr("backend.web.predictor.open_workplace", lambda *arguments: None)
    monkeypatch.setattr("backend.web.predictor.load_engine", fail)
    Predictor(Settings(data_dir=tmp_path))._read(connect_folder(tmp_path, "3.1700000000"), "maskal-r1")
    assert "maskal-r1 of project 3.1700000000 is not read ahead now, other work fills the memory" in caplog.text


def test_other_errors_at_a_box_are_not_hidden(drawn) -> None:
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        drawn(RuntimeError("shapes do not fit"))


@NO_MEMORY
def test_while_a_round_fills_the_memory_a_task_gets_no_prediction(
    answer, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    assert answer(error) == []
    assert "task 1 gets no prediction now, other work fills the memory" in caplog.text


def test_other_errors_of_torch_are_not_hidden(answer) -> None:
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        answer(RuntimeError("shapes do not fit"))
