from __future__ import annotations

import json
from pathlib import Path

from backend.label_studio.annotations import read_outlines
from backend.label_studio.labels import parse_label_config
from tests.backend.outlined_photos import SQUARES, assert_squares, run


def test_label_studio_tasks_have_predictions_and_a_config_for_them(photos: Path, weights: Path) -> None:
    run(photos, weights, "labelstudio")
    config = parse_label_config((photos / "labelstudio_config.xml").read_text())
    tasks = json.loads((photos / "labelstudio.json").read_text())
    addresses = {config.image_value.of(task["data"]): task["predictions"][0] for task in tasks}
    assert set(addresses) == {
        "/data/local-files/?d=photos/a.png",
        "/data/local-files/?d=photos/field%201/R%C3%BCbe.png",
        "/data/local-files/?d=photos/field%201/none.png",
    }
    shown = addresses["/data/local-files/?d=photos/a.png"]
    assert shown["model_version"] == "weights"
    outlines, problems = read_outlines({"id": 1, **shown}, config, (128, 128), with_scores=True)
    assert not problems and all(0.5 < (outline.score or 0) <= 1 for outline in outlines)
    assert_squares(outlines, SQUARES["a.png"])


def test_an_address_of_images_can_be_given(photos: Path, weights: Path) -> None:
    run(photos, weights, "labelstudio", image_root_url="https://photos.example/")
    tasks = json.loads((photos / "labelstudio.json").read_text())
    assert tasks[0]["data"]["image"] == "https://photos.example/a.png"


def test_addresses_get_the_slash_that_they_lack(photos: Path, weights: Path) -> None:
    run(photos, weights, "labelstudio", image_root_url="https://photos.example/today")
    tasks = json.loads((photos / "labelstudio.json").read_text())
    assert tasks[0]["data"]["image"] == "https://photos.example/today/a.png"
