from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from backend.errors import BadImage
from backend.label_studio.client import Task
from backend.label_studio.replaced import Replacement
from backend.project.config import ProjectConfig
from backend.project.folder import connect_folder
from backend.project.unreadable import Unreadable
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

        monkeypatch.setattr("backend.web.predictor.Scorer.images", fail)
        return predictor_of(tmp_path)._score(place_of(tmp_path), "maskal-r1", TASK, ())  # type: ignore[arg-type]

    return answered


TASK = Task(1, {"image": "a.jpg"}, False)


def predictor_of(folder: Path) -> Predictor:
    """One that serves a version of the project of `place_of`."""
    predictor = Predictor(Settings(data_dir=folder))
    predictor._served["3.1700000000"] = _Served("maskal-r1", ProjectConfig(), network())
    return predictor


def place_of(folder: Path, load: Callable[..., np.ndarray] | None = None) -> SimpleNamespace:
    """A workplace whose images are all black, unless they are loaded otherwise."""
    load = load or (lambda *arguments: np.zeros((40, 40, 3), np.uint8))
    images = SimpleNamespace(load=load, replaced=lambda value: None)
    known = {"folder": connect_folder(folder, "3.1700000000"), "labels": CONFIG, "config": ProjectConfig()}
    return SimpleNamespace(images=images, **known)


@pytest.fixture
def drawn(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """What a drawn box is answered where outlining it ends with an error."""

    def answered(error: Exception) -> Any:
        def fail(*arguments: object) -> None:
            raise error

        place = place_of(tmp_path)
        monkeypatch.setattr("backend.web.predictor.open_workplace", lambda *arguments: place)
        monkeypatch.setattr("backend.web.assistant.Assistant.answer", fail)
        return Predictor(Settings(data_dir=tmp_path)).assist(place.folder, TASK, None, box(1, 1, 9, 9))  # type: ignore[arg-type]

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

    monkeypatch.setattr("backend.web.predictor.open_workplace", lambda *arguments: place_of(tmp_path))
    monkeypatch.setattr("backend.web.predictor.load_engine", fail)
    Predictor(Settings(data_dir=tmp_path))._read(connect_folder(tmp_path, "3.1700000000"), "maskal-r1")
    assert "maskal-r1 of project 3.1700000000 is not read ahead now, other work fills the memory" in caplog.text


def test_other_errors_at_a_box_are_not_hidden(drawn) -> None:
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        drawn(RuntimeError("shapes do not fit"))


def test_memory_that_did_not_suffice_is_given_back_without_what_was_computed_in_it(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[weakref.ref[torch.Tensor]] = []
    is_held: list[bool] = []

    def fail(*arguments: object) -> None:
        features = torch.zeros(9)
        held.append(weakref.ref(features))
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("backend.web.predictor.Scorer.images", fail)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: is_held.append(held[0]() is not None))
    assert predictor_of(tmp_path)._score(place_of(tmp_path), "maskal-r1", TASK, ()) == []  # type: ignore[arg-type]
    assert is_held == [False]


FAILED_GPU = RuntimeError("CUDA error: unspecified launch failure")


@pytest.mark.parametrize("what", ["answer", "drawn"])
def test_a_process_whose_gpu_failed_is_replaced(
    what: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    starts, made = [], Predictor.__init__
    monkeypatch.setattr(Predictor, "__init__", lambda own, settings: made(own, settings, lambda: starts.append(1)))
    answered = request.getfixturevalue(what)(FAILED_GPU)
    assert answered == ([] if what == "answer" else {"result": []}) and starts == [1]
    assert "now, the GPU failed, and this process is replaced by another one: CUDA error: unspecified" in caplog.text


def test_a_failed_gpu_is_told_where_nobody_replaces_the_process(answer) -> None:
    with pytest.raises(RuntimeError, match="unspecified launch failure"):
        answer(FAILED_GPU)


@NO_MEMORY
def test_while_a_round_fills_the_memory_a_task_gets_no_prediction(
    answer, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    assert answer(error) == []
    assert "task 1 gets no prediction now, other work fills the memory" in caplog.text


def test_other_errors_of_torch_are_not_hidden(answer) -> None:
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        answer(RuntimeError("shapes do not fit"))


def test_an_image_that_cannot_be_read_is_noted_and_forgotten_once_it_can(tmp_path) -> None:
    def fail(*arguments: object) -> np.ndarray:
        raise BadImage("the image of task 1 is not there")

    predictor = predictor_of(tmp_path)
    assert predictor._score(place_of(tmp_path, fail), "maskal-r1", TASK, ()) == []  # type: ignore[arg-type]
    unreadable = Unreadable(place_of(tmp_path).folder.path)
    assert unreadable.failures()[1].error == "the image of task 1 is not there"
    predictor._score(place_of(tmp_path), "maskal-r1", TASK, ())  # type: ignore[arg-type]
    assert not unreadable.failures()


@pytest.mark.parametrize("wanted", ["prediction", "outline"])
def test_while_an_image_is_slow_to_come_other_work_goes_on(
    tmp_path, monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    asked, comes = threading.Event(), threading.Event()

    def slowly(*arguments: object) -> np.ndarray:
        asked.set()
        assert comes.wait(60)
        return np.zeros((40, 40, 3), np.uint8)

    predictor, slow = predictor_of(tmp_path), place_of(tmp_path, slowly)
    monkeypatch.setattr("backend.web.predictor.open_workplace", lambda *arguments: slow)
    work = {
        "prediction": lambda: predictor._score(slow, "maskal-r1", TASK, ()),  # type: ignore[arg-type]
        "outline": lambda: predictor.assist(slow.folder, TASK, None, box(1, 1, 9, 9)),  # type: ignore[arg-type]
    }
    with ThreadPoolExecutor() as others:
        waiting = others.submit(work[wanted])
        assert asked.wait(60)
        other = predictor._score(place_of(tmp_path), "maskal-r1", TASK, ())  # type: ignore[arg-type]
        comes.set()
    assert isinstance(other, dict) and other["model_version"] == "maskal-r1"
    assert isinstance(waiting.result(), dict)


@pytest.mark.parametrize(("device", "kept"), [("cuda:1", "341"), ("cpu", "2341")])
def test_on_a_gpu_only_the_engines_used_last_stay(
    tmp_path, monkeypatch: pytest.MonkeyPatch, device: str, kept: str
) -> None:
    monkeypatch.setattr("backend.web.predictor.load_engine", lambda *arguments: network())
    monkeypatch.setattr("backend.web.predictor.device_of_engine", lambda engine: torch.device(device))
    predictor, place = Predictor(Settings(data_dir=tmp_path)), place_of(tmp_path)
    for number in "123141":
        place.folder = connect_folder(tmp_path, f"{number}.1700000000")
        served = predictor._load(place, "maskal-r1")  # type: ignore[arg-type]
        assert predictor._engine(place, served) is served.engine  # type: ignore[arg-type]
    assert [uid[0] for uid in predictor._served] == list(kept)


def test_an_image_at_hand_is_not_fetched_for_its_further_boxes(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[object] = []

    def load(*arguments: object) -> np.ndarray:
        fetched.append(arguments)
        return np.zeros((40, 40, 3), np.uint8)

    place = place_of(tmp_path, load)
    monkeypatch.setattr("backend.web.predictor.open_workplace", lambda *arguments: place)
    predictor = Predictor(Settings(data_dir=tmp_path))
    for _ in range(2):
        predictor.assist(place.folder, TASK, None, box(1, 1, 90, 90))  # type: ignore[arg-type]
    assert len(fetched) == 1
    place.images.replaced = lambda value: Replacement("a", 0.0)
    predictor.assist(place.folder, TASK, None, box(1, 1, 90, 90))  # type: ignore[arg-type]
    assert len(fetched) == 2, "it was replaced"


def test_an_engine_is_loaded_anew_once_the_settings_were_changed(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[float] = []

    def load(place: SimpleNamespace, version: str) -> Any:
        loaded.append(place.config.confidence_threshold)
        return network()

    monkeypatch.setattr("backend.web.predictor.load_engine", load)
    predictor, place = Predictor(Settings(data_dir=tmp_path)), place_of(tmp_path)
    for threshold in (0.5, 0.5, 0.3):
        place.config = ProjectConfig(confidence_threshold=threshold)
        assert predictor._score(place, "maskal-r1", TASK, ())  # type: ignore[arg-type]
    assert loaded == [0.5, 0.3]
