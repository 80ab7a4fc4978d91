from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.errors import BadImage, BadSetting
from backend.label_studio.client import TITLE
from backend.project.config import ProjectConfig
from backend.project.feature_cache import FeatureCache
from backend.project.folder import ProjectFolder, connect_folder
from backend.project.workplace import Workplace
from backend.rounds import first_images
from backend.rounds.computing import open_feature_cache
from backend.rounds.first_images import (
    HELD_OUT,
    UNSEEN,
    Wish,
    first_images_in_words,
    mended,
    order_first_images,
    publish_first_images,
)
from backend.rounds.first_queue import (
    FIRST_VERSION,
    FirstTask,
    first_order_in_words,
    has_first_queue,
    read_first_queue,
    write_first_queue,
)
from backend.rounds.snapshots import split_of
from backend.rounds.summary import front_of_first_queue
from backend.settings import Settings
from model.engines.torchvision.imagenet import PACKAGES
from model.engines.torchvision.timm_networks import LITE
from tests.backend.fake_label_studio import FakeLabelStudio, place_of
from tests.backend.round_places import Photos, quiet, region_of
from tests.backend.rounds.test_task_queue import registry

UID = "1.1"
TASKS = 20


class NoisyPhotos(Photos):
    """Leaves and spots, no two alike; the images of `broken` tasks cannot be read."""

    broken: frozenset[int] = frozenset()

    def load(self, value: object, task_id: int) -> np.ndarray:
        if task_id in self.broken:
            raise BadImage(f"task {task_id}: broken")
        noise = np.random.default_rng(task_id).integers(-30, 30, (60, 80, 3))
        return np.clip(super().load(value, task_id) + noise, 0, 255).astype(np.uint8)


class Project:
    """A project without a version, and the looks that a worker takes at it."""

    def __init__(self, data_dir: Path, annotated: int = 0, **settings: Any) -> None:
        self.folder: ProjectFolder = connect_folder(data_dir, UID)
        self.folder.store_config(ProjectConfig.model_validate({"engine": "fake", **settings}))
        self.server = FakeLabelStudio(UID, TASKS, annotated)
        self.settings = Settings(data_dir=data_dir)
        self.photos = NoisyPhotos()

    @property
    def place(self) -> Workplace:
        return place_of(self.folder, self.server, self.photos)

    def open_cache(self) -> FeatureCache:
        return open_feature_cache(self.place, self.settings)

    def look(self, *, may_begin: bool = True, budget_s: float = 60.0) -> bool:
        """One look, and the publish after it; whether there is more to do."""
        is_more = order_first_images(self.place, self.open_cache, quiet, may_begin=may_begin, budget_s=budget_s)
        publish_first_images(self.place, self.server.project(1))
        return is_more

    def scores(self) -> dict[int, float]:
        """What Label Studio's queue sorts the open tasks by."""
        return {
            task: prediction["score"]
            for task, predictions in self.server.stored.items()
            for prediction in predictions
            if prediction["model_version"] == FIRST_VERSION and not self.server.annotations[task]
        }

    def order(self) -> list[int]:
        scores = self.scores()
        return sorted(scores, key=lambda task: scores[task])

    def status(self) -> list[str]:
        return list(first_images_in_words(self.place, self.server.project(1), 3))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the backbone sees in the photos, computed once."""
    data_dir = tmp_path_factory.mktemp("cache")
    Project(data_dir, first_images="coverage").look()
    return data_dir / "cache"


@pytest.fixture
def project(tmp_path: Path, cache: Path) -> Project:
    shutil.copytree(cache, tmp_path / "cache")
    return Project(tmp_path, first_images="coverage")


def test_all_open_tasks_get_a_place_and_the_queue_follows(project: Project) -> None:
    assert not project.look()
    assert project.server.model_version == FIRST_VERSION
    assert len(project.scores()) == TASKS and all(0 < score < 1 for score in project.scores().values())
    rows = read_first_queue(project.folder)
    assert list(rows) == project.order(), "the file and Label Studio agree"
    held_out = {task for task, row in rows.items() if row.split == "val"}
    assert held_out and all((rows[task].reason == HELD_OUT) == (task in held_out) for task in rows)
    assert all(p["result"] == [] for predictions in project.server.stored.values() for p in predictions)
    train = [task for task in project.order() if task not in held_out]
    assert {task % 2 for task in train[:2]} == {0, 1}, "a leaf and a spot"
    first, *nexts = project.status()
    assert first.startswith("the first images are chosen") and nexts[0].startswith(f"  task {project.order()[0]}: ")


def test_nothing_moves_while_the_first_are_annotated_in_their_order(project: Project) -> None:
    project.look()
    order = project.order()
    for task in order[:6]:
        project.server.annotate(task)
        project.look()
    assert project.order() == order[6:] and project.server.rescored == []


def test_what_is_annotated_elsewhere_counts_as_covered(project: Project) -> None:
    project.look()
    rows, order = read_first_queue(project.folder), project.order()
    train = [task for task in order if rows[task].split == "train"]
    for task in [t for t in train if t % 2 == train[0] % 2][1:]:
        project.server.annotate(task)
    project.look()
    now = [task for task in project.order() if rows[task].split == "train"]
    assert now[0] % 2 != train[0] % 2, "the kind of which nothing is annotated comes first"
    assert project.server.rescored and sorted(project.scores().values()) == sorted(
        rows[task].score for task in project.scores()
    ), "tasks have changed places"
    held_out = [task for task in project.scores() if rows[task].split == "val"]
    assert all(project.scores()[task] == rows[task].score for task in held_out), "chance stays as it fell"


def test_late_tasks_and_those_whose_prediction_was_deleted_do_not_starve(project: Project) -> None:
    project.look()
    lost = project.order()[3]
    before = project.scores()[lost]
    project.server.stored[lost] = []
    project.server.annotations[TASKS + 1], project.server.stored[TASKS + 1] = [], []
    assert not project.look()
    scores = project.scores()
    assert scores[lost] == pytest.approx(before, abs=0.2) and 0 < scores[TASKS + 1] < 1
    assert all(len(predictions) == 1 for predictions in project.server.stored.values())


def test_looking_takes_several_turns_and_chance_serves_until_then(project: Project) -> None:
    looks = 0
    while project.look(budget_s=-1):
        looks += 1
        assert project.server.model_version == "" and not has_first_queue(project.folder)
        assert f"{8 * looks} of {TASKS} were looked at" in project.status()[0]
    assert looks == 2 and project.server.model_version == FIRST_VERSION


def test_images_that_come_once_all_others_are_annotated_are_ordered_as_the_first_were(project: Project) -> None:
    project.look()
    for task in project.order():
        project.server.annotate(task)
    for task in range(TASKS + 1, TASKS + 9):
        project.server.annotations[task], project.server.stored[task] = [], []
    assert not project.look()
    rows = read_first_queue(project.folder)
    assert len(set(project.scores().values())) == 8, "no two stand at the same place"
    assert [task for task in rows if not project.server.annotations[task]] == project.order()
    assert not project.look() and project.server.rescored == []


def test_an_image_that_cannot_be_read_keeps_no_other_waiting(project: Project) -> None:
    project.photos.broken = frozenset({4})
    assert not project.look()
    assert len(project.scores()) == TASKS - 1 and 4 not in project.scores()


def test_many_images_that_cannot_be_read_let_looks_rest_and_hide_no_lost_prediction(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_images, "LISTED_AT_ONCE", 2)
    project.photos.broken = frozenset({1, 2, 3, 4})
    assert not project.look() and len(project.scores()) == TASKS - 4
    lost = [9, 10, 11]
    for task in lost:
        project.server.stored[task] = []
    looks = 1
    while project.look() and looks < 5:
        looks += 1
    assert looks < 5 and set(lost) <= project.scores().keys()


def test_pre_labels_from_elsewhere_go_into_the_order(project: Project) -> None:
    regions = [region_of(3)]
    project.server.stored[3] = [{"task": 3, "model_version": "imported", "result": regions, "score": None}]
    project.look()
    assert [p["result"] for p in project.server.stored[3]] == [regions, regions]


def test_a_version_is_never_replaced_by_the_first_order(project: Project) -> None:
    project.look()
    versions = registry(project.folder.path, (1, None))
    versions.set_current("maskal-r1")
    project.server.model_version = "maskal-r1"
    project.server.annotations[TASKS + 1], project.server.stored[TASKS + 1] = [], []
    assert not project.look() and project.server.stored[TASKS + 1] == []
    assert project.server.model_version == "maskal-r1" and project.status() == []


def test_a_test_image_is_told_as_one() -> None:
    rows = mended({}, {}, {1: "val", 2: "test"}, {1, 2})
    assert (rows[1].reason, rows[2].reason) == (HELD_OUT, "a test image, by chance")


def test_a_version_that_is_served_in_the_moment_of_the_publish_wins(project: Project) -> None:
    order_first_images(project.place, project.open_cache, quiet, may_begin=True)
    versions = registry(project.folder.path, (1, None))
    project.server.stored[1].append({"task": 1, "model_version": "maskal-r1", "result": [], "score": 0.5})
    look_at_versions = project.server.model_versions

    def end_round(project_id: int) -> dict[str, int]:
        versions.set_current("maskal-r1")
        project.server.model_version = "maskal-r1"
        return look_at_versions(project_id)

    seen = project.server.project(1)
    project.server.model_versions = end_round  # type: ignore[method-assign]
    publish_first_images(project.place, seen)
    assert project.server.model_version == "maskal-r1"


def test_chance_is_left_to_itself_and_taken_back_to(tmp_path: Path, project: Project) -> None:
    by_chance = Project(tmp_path / "chance")
    assert not by_chance.look() and not any(by_chance.server.stored.values())
    assert by_chance.status() == ["the first images come in random order"]
    assert first_order_in_words(by_chance.folder) == "The first images come in random order."
    project.look(may_begin=False)
    assert not has_first_queue(project.folder), "a round is due, its version will order them"
    project.look()
    project.folder.store_config(ProjectConfig(engine="fake", first_images="random"))
    assert front_of_first_queue(project.place, {}) == ()
    project.look()
    assert project.server.model_version == TITLE


def test_without_the_weights_chance_chooses_and_status_says_why_and_how_to_mend(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as missing:
        missing.setitem(PACKAGES, LITE.name, replace(PACKAGES[LITE.name], module="no_such_package"))
        assert not project.look() and not project.look(), "nothing is to be done before somebody mends it"
        assert project.server.model_version == "" and not has_first_queue(project.folder)
        (line,) = project.status()
        assert line.startswith("the first images come in random order, as they cannot be looked at: the package with")
        assert f"pip install {PACKAGES[LITE.name].requirement}" in line and "tried again" in line
        assert "`maskal status` says why" in first_order_in_words(project.folder)
    project.look()
    assert project.server.model_version == FIRST_VERSION and project.status()[0].startswith(
        "the first images are chosen"
    )
    assert "stand for the most others" in first_order_in_words(project.folder)


def test_new_images_that_nobody_can_look_at_do_not_starve(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.look()
    order = project.order()
    new = [task for task in range(TASKS + 1, TASKS + 9) if split_of({}, task, UID) == "train"]
    for task in new:
        project.server.annotations[task], project.server.stored[task] = [], []
    with monkeypatch.context() as broken:
        broken.setitem(PACKAGES, LITE.name, replace(PACKAGES[LITE.name], sha256="another"))
        assert not project.look()
        scores = project.scores()
        assert all(0 < scores[task] < 1 for task in new) and len({scores[task] for task in new}) == len(new)
        assert [task for task in project.order() if task not in new] == order
        rows = read_first_queue(project.folder)
        assert {rows[task].reason for task in new} == {UNSEEN}
        assert "new images come at random places" in project.status()[-1]
        assert "pip install --force-reinstall" in project.status()[-1]
        assert not project.look() and project.scores() == scores, "they stay where they are"
    project.look()
    rows = read_first_queue(project.folder)
    assert UNSEEN not in {row.reason for row in rows.values()} and "random" not in project.status()[-1]


def test_only_the_fake_engine_and_the_published_numbers_begin_by_chance() -> None:
    assert ProjectConfig().chooses_first_images and ProjectConfig(engine="fake", first_images="coverage")
    assert not ProjectConfig(engine="fake").chooses_first_images
    assert not ProjectConfig.model_validate({"preset": "maskal"}).chooses_first_images


def test_a_wish_for_the_front_is_a_change_of_places() -> None:
    before = {task: FirstTask(task, task / 10, "train", "") for task in range(1, 6)}
    wishes = {task: Wish(place, f"wish {place}") for place, task in enumerate((5, 1, 2, 3, 4))}
    after = mended(before, wishes, dict.fromkeys(before, "train"), set(before))
    assert sorted(after, key=lambda task: after[task].score) == [5, 1, 2, 3, 4]
    assert after[5].reason == "wish 0" and {row.score for row in after.values()} == {0.1, 0.2, 0.3, 0.4, 0.5}


def test_a_broken_order_says_what_to_do(project: Project) -> None:
    project.look()
    (project.folder.path / "initial.jsonl").write_text('{"task": 1}\n')
    with pytest.raises(BadSetting, match=r"initial\.jsonl of project 1\.1 cannot be read .*; delete it"):
        read_first_queue(project.folder)


def test_status_counts_the_images_that_are_left(project: Project) -> None:
    def told() -> list[str]:
        return list(first_images_in_words(project.place, project.server.project(1)))

    write_first_queue(project.folder, [FirstTask(task, task / 9, "train", "") for task in (1, 2, 3)])
    chosen = "the first images are chosen: each the one that stands for the most others"
    for task, following in (1, "; the next 2 are"), (2, "; the next one is"), (3, ""):
        project.server.annotate(task)
        assert told()[0] == chosen + following
    project.server.annotations.clear()
    write_first_queue(project.folder, [])
    assert told() == ["the project has no task yet; import images"]
