"""A project with photos of dark leaves and pale ones, scored by the fake engine, looked at by the real backbone."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import cv2
import numpy as np
import pytest
import torch

from backend.errors import BadImage
from backend.label_studio.client import Task
from backend.label_studio.labels import parse_label_config
from backend.project.config import ProjectConfig
from backend.project.feature_cache import FeatureCache
from backend.project.folder import connect_folder
from backend.project.workplace import Workplace
from backend.rounds import task_queue
from backend.rounds.choosing import Means, known_objects, onlooker_for, strategy_of
from backend.rounds.folder import AnnotatedImage, Round
from backend.rounds.reasons import Reasons
from backend.rounds.scoring import Scored, score_tasks
from backend.rounds.seen_objects import Onlooker
from backend.rounds.trial import choosing_in_words, read_trial
from model.engines.base import EngineConfig
from model.engines.fake import FakeEngine
from model.errors import BadCheckpoint
from model.registry import VersionFields
from model.stored_weights import add_version
from sampling.ranking import Moment
from tests.backend.configs import POLYGONS

COVERAGE: dict[str, Any] = {"strategy": "coverage", "pretrained_weights": "imagenet"}
DARK, PALE = (26, 26, 26), (230, 230, 230)
"""Near the colours that an untrained fake engine takes for its two classes."""


class Photos:
    """Odd tasks show a dark leaf, even ones a pale one; some cannot be read."""

    def __init__(self, *broken: int) -> None:
        self.broken = broken

    def load(self, value: object, task_id: int) -> np.ndarray:
        if task_id in self.broken:
            raise BadImage(f"task {task_id} is broken")
        photo = np.full((64, 64, 3), 128, np.uint8)
        cv2.circle(photo, (32, 32), 20, DARK if task_id % 2 else PALE, -1)
        return photo


def workplace(folder: Path, photos: Photos, **settings: Any) -> Workplace:
    made = SimpleNamespace(
        folder=SimpleNamespace(path=folder, data_dir=folder, uid="1.1"),
        images=photos,
        labels=parse_label_config(POLYGONS),
        config=ProjectConfig(device="cpu", **settings),
    )
    return cast(Workplace, made)


def engine() -> FakeEngine:
    return FakeEngine(("leaf", "spot"), EngineConfig())


def a_round(folder: Path, *tasks: tuple[int, str], empty: int | None = None) -> Round:
    """With these tasks annotated for a split: a box around the leaf, and nothing in an `empty` one."""
    made = Round(folder / "rounds" / "3")
    made.save()
    points = [[15.0, 15.0], [85.0, 15.0], [85.0, 85.0], [15.0, 85.0]]
    region = {
        "id": "a",
        "type": "polygonlabels",
        "from_name": "shape",
        "to_name": "image",
        "original_width": 64,
        "original_height": 64,
        "value": {"points": points, "polygonlabels": ["leaf"], "closed": True},
    }
    rows = [
        AnnotatedImage(task, f"{task}.jpg", (64, 64), split, task, [] if task == empty else [region])
        for task, split in tasks
    ]
    made.write_annotated(rows, POLYGONS)
    return made


def scored(place: Workplace, onlooker: Onlooker | None, *numbers: int) -> dict[int, Scored]:
    tasks = [Task(id=number, data={"photo": f"{number}.jpg"}, is_labeled=False) for number in numbers]
    found = score_tasks(place, engine(), "maskal-r3", tasks, onlooker)
    return {task.id: score for task, score in found if score is not None}


def test_tasks_unlike_what_is_annotated_come_first(tmp_path: Path) -> None:
    place = workplace(tmp_path, Photos(), **COVERAGE, coverage_uncertainty=0.0)
    onlooker = onlooker_for(place, Round(tmp_path / "3"))
    known = known_objects(place, a_round(tmp_path, (101, "train")), Means(engine(), onlooker))
    assert known is not None and known.features.shape[0] == 1
    found = scored(place, onlooker, 1, 3, 2, 4)
    queue = task_queue.order_tasks(
        found, dict.fromkeys(found, "train"), place.config.ranking_config(), Moment(3, known=known)
    )
    assert queue[0].task in (2, 4) and {row.task for row in queue} == set(found)


def test_ground_without_objects_is_known_once_it_is_annotated(tmp_path: Path) -> None:
    place = workplace(tmp_path, Photos(), **COVERAGE, coverage_uncertainty=0.0)
    onlooker = onlooker_for(place, Round(tmp_path / "3"))
    assert onlooker is not None
    current = a_round(tmp_path, (101, "train"), (102, "train"), empty=102)
    known = known_objects(place, current, Means(engine(), onlooker))
    patches = onlooker.cache.maps(Photos().load("", 102)).of_patches(2)
    assert known is not None and len(known.features) == 1 + len(patches)
    assert np.allclose(known.features[1:], patches)


def test_a_score_is_the_same_with_an_onlooker_and_without(tmp_path: Path) -> None:
    place = workplace(tmp_path, Photos(), **COVERAGE)
    beside, alone = scored(place, onlooker_for(place, Round(tmp_path / "3")), 1, 2), scored(place, None, 1, 2)
    for task, score in alone.items():
        assert score.seen is None and beside[task].as_json() == score.as_json()
        assert "seen" not in score.as_json()
        seen = beside[task].seen
        assert seen is not None and len(seen.objects) == 1 and seen.whole.shape == seen.objects.features[0].shape


def test_uncertainty_is_tried_on_the_validation_images_and_the_trial_is_kept(tmp_path: Path) -> None:
    place = workplace(tmp_path, Photos(), **COVERAGE)
    current = a_round(tmp_path, (1, "train"), (2, "val"), (3, "val"), (4, "val"), (5, "val"))
    assert read_trial(current) is None
    known = known_objects(place, current, Means(engine(), onlooker_for(place, Round(tmp_path / "3"))))
    trial = read_trial(current)
    assert known is not None and trial is not None
    assert trial.images == 4 and trial.trust == known.trust and 0 <= trial.trust <= 1 and trial.seconds >= 0


def test_an_image_that_cannot_be_read_any_more_does_not_count(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = workplace(tmp_path, Photos(3), **COVERAGE)
    known = known_objects(
        place,
        a_round(tmp_path, (1, "train"), (3, "train")),
        Means(engine(), onlooker_for(place, Round(tmp_path / "3"))),
    )
    assert known is not None and len(known.features) == 1
    assert "task 3 does not count for choosing: task 3 is broken" in caplog.text


def test_nothing_is_looked_at_for_other_strategies(tmp_path: Path) -> None:
    place = workplace(tmp_path, Photos())
    assert onlooker_for(place, Round(tmp_path / "3")) is None
    assert known_objects(place, a_round(tmp_path, (1, "train")), Means(engine(), None)) is None


def test_diverse_is_given_what_the_untouched_backbone_sees(tmp_path: Path) -> None:
    place = workplace(tmp_path, Photos(), strategy="diverse")
    onlooker = onlooker_for(place, Round(tmp_path / "3"))
    assert onlooker is not None
    assert known_objects(place, a_round(tmp_path, (1, "train")), Means(engine(), onlooker)) is None, "needs no trial"
    found = scored(place, onlooker, 1, 2, 3)
    queue = task_queue.order_tasks(found, dict.fromkeys(found, "train"), place.config.ranking_config(), Moment(1))
    assert sorted(task % 2 for task in [row.task for row in queue[:2]]) == [0, 1]


@pytest.mark.parametrize("settings", [{"engine": "fake"}, {"pretrained_weights": "none"}])
def test_a_network_that_has_not_seen_before_chooses_by_uncertainty_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, settings: dict[str, Any]
) -> None:
    place = workplace(tmp_path, Photos(), strategy="coverage", **settings)
    with caplog.at_level(logging.WARNING):
        assert onlooker_for(place, Round(tmp_path / "3")) is None
    assert "strategy coverage needs a network that has seen images before" in caplog.text
    assert place.config.ranking_config().strategy == "uncertainty"


def test_a_queue_that_nobody_could_look_at_objects_for_is_told_as_uncertainty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(place: Workplace) -> FeatureCache:
        raise BadCheckpoint("the ImageNet weights are missing")

    place = workplace(tmp_path, Photos(), **COVERAGE)
    assert strategy_of(place, Means(engine(), onlooker_for(place, Round(tmp_path / "3")))) == "coverage"
    monkeypatch.setattr("backend.rounds.choosing.open_feature_cache", gone)
    means = Means(engine(), onlooker_for(place, a_round(tmp_path)))
    assert means.onlooker is None
    found = scored(place, None, 1, 2)
    queue = task_queue.order_tasks(found, dict.fromkeys(found, "train"), place.config.ranking_config(), Moment(3))
    first = Reasons.of(strategy_of(place, means), ("leaf", "spot"), found).reason(queue[0])
    assert first == "the least certain of the open images"


@pytest.mark.parametrize(
    ("strategy", "instead"),
    [("coverage", "it is uncertainty until"), ("diverse", "it compares by what its own network sees until")],
)
def test_status_says_that_the_served_queue_was_made_without_the_imagenet_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str, instead: str
) -> None:
    def gone(place: Workplace) -> FeatureCache:
        raise BadCheckpoint("the package is missing; pip install it")

    folder = connect_folder(tmp_path, "1.1")
    folder.store_config(ProjectConfig.model_validate({"strategy": strategy}))
    fields = VersionFields(3, ("leaf",), "fake", {}, {}, None, "", True, "")
    folder.registry.set_current(add_version(folder.registry, fields, {"w": torch.zeros(1)}).name)
    place, current = workplace(tmp_path, Photos(), strategy=strategy), Round(folder.rounds / "3")
    current.save()
    with monkeypatch.context() as without:
        without.setattr("backend.rounds.choosing.open_feature_cache", gone)
        assert onlooker_for(place, current) is None
    [told] = choosing_in_words(folder)
    assert told.startswith(f"strategy {strategy} needs a network that has seen images before; {instead} the next")
    assert told.endswith("the package is missing; pip install it")
    folder.store_config(ProjectConfig.model_validate({"strategy": "uncertainty"}))
    assert not list(choosing_in_words(folder))
    folder.store_config(ProjectConfig.model_validate({"strategy": strategy}))
    assert onlooker_for(place, current) is not None and not list(choosing_in_words(folder))
