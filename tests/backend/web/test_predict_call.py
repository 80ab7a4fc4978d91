from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from backend.label_studio.images import Images
from backend.project.folder import ProjectFolder, connect_folder
from backend.settings import Settings
from backend.web.predict_call import answer, read_call
from backend.web.predictor import Predictor
from model.rankings import RankedTask
from model.registry import Registry, VersionFields
from tests.backend.web.smart_tools import XML, box, point

DISC = (60, 80), 30


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ProjectFolder:
    """Of a project without a version; the image of its tasks is a red disc on white."""
    image = np.full((120, 160, 3), 245, np.uint8)
    cv2.circle(image, DISC[0], DISC[1], (200, 40, 40), -1)
    monkeypatch.setattr(Images, "load", lambda self, uri, task_id: image)
    return connect_folder(tmp_path, "3.1700000000")


def ask(folder: ProjectFolder, context: dict | None) -> dict | list:
    settings = Settings(data_dir=folder.data_dir, label_studio_url="http://127.0.0.1:9", label_studio_api_key="a" * 40)
    call = read_call([{"id": 1, "data": {"image": "/data/a.png"}}], XML, {"context": context})
    [result] = answer(Predictor(settings), folder, call)
    return result


@pytest.mark.parametrize("context", [box(17, 39, 41, 55), point(37, 66)], ids=["box", "click"])
def test_a_box_and_a_click_are_answered_without_a_version(folder: ProjectFolder, context: dict) -> None:
    result = ask(folder, context)
    assert isinstance(result, dict) and result["model_version"] == "maskal-r0" and "score" not in result
    points = np.array(result["result"][0]["value"]["points"]) * (1.6, 1.2)
    assert np.hypot(*(points - DISC[0]).T) == pytest.approx(DISC[1], abs=4)


def test_a_drawn_region_that_was_taken_away_asks_for_nothing(folder: ProjectFolder) -> None:
    assert ask(folder, {"result": []}) == {"result": []}
    assert ask(folder, None) == [], "what is no interactive request is about the task's prediction"


@pytest.mark.parametrize(
    ("context", "reason"),
    [
        (point(37, 66, is_positive=False), "nothing is outlined on task 1: all points are beside the object"),
        (box(1, 1, 9, 9, "pear"), "what was drawn on task 1 gets no outline: the label 'pear'"),
    ],
)
def test_an_empty_answer_has_its_reason_in_the_log(
    folder: ProjectFolder, context: dict, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert ask(folder, context) == {"result": []}
    assert reason in caplog.text


def test_ranked_tasks_get_what_is_stored_without_the_whole_ranking(
    folder: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = VersionFields(1, ("leaf",), "fake", {}, {}, None, "x", True, "a test")
    folder.registry.add(fields, lambda path: (path.write_bytes(b""), "0" * 64)[1])
    folder.registry.set_current("maskal-r1")
    rows = [RankedTask(task, 0.5, task, 0.1 * task, "train", [{"id": f"of {task}"}]) for task in range(1, 5)]
    folder.registry.write_ranking("maskal-r1", rows)
    monkeypatch.setattr(Registry, "read_ranking", None)
    settings = Settings(data_dir=folder.data_dir, label_studio_url="http://127.0.0.1:9", label_studio_api_key="a" * 40)
    call = read_call([{"id": task, "data": {"image": "/data/a.png"}} for task in (4, 2)], XML, {})
    assert answer(Predictor(settings), folder, call) == [
        {"result": [{"id": f"of {task}"}], "score": pytest.approx(0.1 * task), "model_version": "maskal-r1"}
        for task in (4, 2)
    ]
