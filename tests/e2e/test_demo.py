from __future__ import annotations

import pytest

from backend.demo import run
from backend.demo.data import coco_data
from backend.demo.run import DemoOptions, open_project, play
from backend.demo.stack import Stack
from backend.errors import NotFound
from backend.project.config import ProjectConfig
from model.files import read_json
from tests.shared import shared

pytestmark = pytest.mark.e2e


def test_two_rounds_on_real_photos_keep_every_promise(stack: Stack, tmp_path) -> None:
    quick = tmp_path / "quick.yaml"
    quick.write_text("train_iterations_base: 60\nmcd_iterations: 5\n")
    photos = shared("data", "smoke_coffee")
    data = coco_data(photos / "images", photos / "annotations.json", limit=None)
    report = play(stack, DemoOptions(rounds=2, config=quick), data, check=lambda: None)
    assert report["ok"], report.get("error")
    assert report["annotations_in_label_studio"] == report["annotations_seen_by_trainer"] == 10
    first, second = report["rounds"]
    assert [first["version"], second["version"]] == ["maskal-r1", "maskal-r2"]
    assert [first["annotated"], second["annotated"]] == [5, 10]
    assert first["promoted"] and first["reason"] == "first version"
    scores = [task["score"] for task in first["served"]]
    assert len(scores) == 5 and scores == sorted(scores)
    assert ProjectConfig().initial_datasize == 30, "the demo's own sizes must not leak into the defaults"


def test_a_start_that_was_stopped_half_way_is_made_anew(stack: Stack, tmp_path, monkeypatch) -> None:
    note, options = tmp_path / "project.json", DemoOptions(engine="fake", limit=6)
    whole = run.import_images

    def stopped(*arguments):
        yield next(whole(*arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "import_images", stopped)
    with pytest.raises(KeyboardInterrupt):
        open_project(stack, options, note)
    half = read_json(note)["id"]
    assert len(list(stack.client().tasks(half))) > 0
    monkeypatch.setattr(run, "import_images", whole)
    project = open_project(stack, options, note)
    assert len(list(stack.client().tasks(project.id))) == 6
    with pytest.raises(NotFound):
        stack.client().project(half)
    assert open_project(stack, options, note).id == project.id
