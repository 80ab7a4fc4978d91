from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backend.care.asked import SPOKESMEN, Wish, ask
from backend.care.like import Found, Like, most_like
from backend.errors import BadImage, BadSetting
from backend.label_studio.client import LabelStudio
from backend.label_studio.replaced import Replacement
from backend.label_studio.tabs import find_like, provide_like, provide_next, tabs
from backend.project.config import ProjectConfig
from backend.project.feature_cache import FeatureCache
from backend.project.folder import connect_folder
from backend.project.unreadable import Unreadable
from backend.project.workplace import Workplace
from backend.rounds import object_index
from backend.rounds.object_index import MOST, boxes_of
from backend.rounds.object_parts import FOLDER, OLD_FILE, ObjectParts
from backend.rounds.snapshots import split_of
from model.rankings import RankedTask
from model.registry import VersionFields
from model.stored_weights import add_version
from tests.backend.fake_label_studio import FakeLabelStudio, place_of
from tests.backend.round_places import Photos, region_of

UID = "1.1"
TASKS = 24
IN_TRAINING = [task for task in range(1, TASKS + 1) if split_of({}, task, UID) == "train"]


class CountedPhotos(Photos):
    """Leaves and spots, no two alike; how often each was read, and which cannot be."""

    def __init__(self) -> None:
        self.reads: list[int] = []
        self.broken: set[int] = set()

    def load(self, value: object, task_id: int) -> np.ndarray:
        self.reads.append(task_id)
        if task_id in self.broken:
            raise BadImage(f"task {task_id}: broken")
        noise = np.random.default_rng(task_id).integers(-20, 20, (60, 80, 3))
        return np.clip(super().load(value, task_id) + noise, 0, 255).astype(np.uint8)


class Project:
    """A project of leaves (odd tasks) and spots (even ones), the first annotated."""

    def __init__(self, data_dir: Path, cache: FeatureCache) -> None:
        self.folder = connect_folder(data_dir, UID)
        self.folder.store_config(ProjectConfig(engine="fake"))
        self.server, self.photos, self.cache = FakeLabelStudio(UID, TASKS, 1), CountedPhotos(), cache

    @property
    def place(self) -> Workplace:
        return place_of(self.folder, self.server, self.photos)

    def serve(self, number: int = 1, ranked: Sequence[int] = IN_TRAINING) -> None:
        """A version that finds each photo's object."""
        fields = VersionFields(number, ("leaf", "spot"), "fake", {}, {}, None, "", True, "")
        version = add_version(self.folder.registry, fields, {"w": torch.zeros(1)}).name
        rows = [RankedTask(t, 0.5, i, i / TASKS, "train", regions=[region_of(t)]) for i, t in enumerate(ranked)]
        self.folder.registry.write_ranking(version, rows)
        self.folder.registry.set_current(version)

    def rows(self) -> set[tuple[int, str]]:
        """Tasks of which objects are kept, each with the version that found them."""
        return {(row.task, row.version) for row in ObjectParts(self.folder.path, self.cache.backbone.digest).rows()}

    def like(self, task: int, region: str | None = None, count: int = 5) -> Found:
        return most_like(self.place, self.cache, Wish(task, region), count)

    def like_class(self, label: str, count: int = 5) -> Found:
        return most_like(self.place, self.cache, Wish(label=label), count)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> FeatureCache:
    """What the backbone sees in the photos, computed once."""
    return FeatureCache(tmp_path_factory.mktemp("features"), 1e9)


@pytest.fixture
def project(tmp_path: Path, cache: FeatureCache) -> Project:
    return Project(tmp_path, cache)


def test_tasks_that_show_the_same_come_first(project: Project) -> None:
    project.serve()
    found = project.like(1)
    assert len(found.tasks) == 5 and all(one.task % 2 == 1 for one in found.tasks), "leaves, as task 1 shows"
    assert [one.likeness for one in found.tasks] == sorted((one.likeness for one in found.tasks), reverse=True)
    spots = project.like(IN_TRAINING[-1] if IN_TRAINING[-1] % 2 == 0 else IN_TRAINING[-2])
    assert all(one.task % 2 == 0 for one in spots.tasks)


def test_neither_annotated_nor_validation_tasks_nor_the_task_itself_are_proposed(project: Project) -> None:
    project.server.annotate(3)
    asked = next(task for task in IN_TRAINING if task > 3)
    found = {one.task for one in project.like(asked, count=100).tasks}
    assert found == set(IN_TRAINING) - {1, 3, asked}


def test_each_image_is_looked_at_once_and_patches_again_once_there_is_a_version(project: Project) -> None:
    project.like(1)
    project.photos.reads.clear()
    project.like(1)
    assert project.photos.reads == [1], "only what is asked for"
    project.serve()
    project.like(1)
    assert set(project.photos.reads) == set(IN_TRAINING), "now there are objects to compare"
    project.photos.reads.clear()
    project.like(1)
    assert project.photos.reads == [1]


def test_one_region_may_be_meant(project: Project) -> None:
    project.server.annotate(1, {**region_of(2), "id": "other"})
    project.serve()
    found = project.like(1, "1")
    assert found.wanted == "region 1 of task 1" and all(one.task % 2 == 1 for one in found.tasks)
    assert found.tasks != project.like(1, "other").tasks != project.like(1).tasks
    with pytest.raises(BadSetting, match="task 1 has no region 'gone'; it has 1, other"):
        project.like(1, "gone")


def test_an_unknown_task_is_named(project: Project) -> None:
    with pytest.raises(BadSetting, match="project 1 has no task 99"):
        project.like(99)


def test_images_that_cannot_be_read_are_counted_and_noted(project: Project) -> None:
    broken = next(task for task in IN_TRAINING if task > 1)
    project.photos.broken.add(broken)
    found = project.like(1, count=100)
    assert found.unread == 1 and broken not in {one.task for one in found.tasks}
    assert found.in_words()[-1].startswith("1 open task is left out, as its image cannot be read")
    assert broken in Unreadable(project.folder.path).failures()


def test_a_broken_part_is_made_anew_and_the_file_of_before_goes(project: Project) -> None:
    (project.folder.path / OLD_FILE).write_bytes(b"of a release before")
    first = project.like(1)
    (part,) = (project.folder.path / FOLDER).iterdir()
    assert not (project.folder.path / OLD_FILE).exists()
    part.write_bytes(b"torn")
    assert project.like(1) == first


def test_deleted_tasks_are_forgotten_and_those_that_are_left_are_not_looked_at_again(project: Project) -> None:
    project.like(1)
    gone = IN_TRAINING[3:]
    for task in gone:
        del project.server.annotations[task]
    project.photos.reads.clear()
    assert {one.task for one in project.like(1).tasks} == set(IN_TRAINING[1:3])
    assert project.photos.reads == [1] and {task for task, _ in project.rows()} == set(IN_TRAINING[1:3])


def test_an_exchanged_image_is_looked_at_again(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.like(1)
    tasks = list(project.server.tasks(1))
    other = next(task for task in tasks if task.id == IN_TRAINING[1])
    tasks[tasks.index(other)] = replace(other, data={"photo": "another.png"})
    monkeypatch.setattr(project.server, "tasks", lambda project_id: iter(tasks))
    project.photos.reads.clear()
    project.like(1)
    assert project.photos.reads == [1, other.id] and len(project.rows()) == len(IN_TRAINING) - 1


def test_a_replaced_image_is_looked_at_again(project: Project) -> None:
    project.like(1)
    project.photos.replacements[f"{IN_TRAINING[1]}.png"] = Replacement("a", 0.0)
    project.photos.reads.clear()
    project.like(1)
    assert project.photos.reads == [1, IN_TRAINING[1]]


def test_the_objects_of_a_newer_version_take_the_place_of_those_of_the_one_before(project: Project) -> None:
    project.serve(1)
    project.like(1)
    assert {version for _, version in project.rows()} == {"maskal-r1"}
    project.serve(2)
    project.photos.reads.clear()
    assert project.like(1).outdated == 0
    assert set(project.photos.reads) == set(IN_TRAINING)
    assert {version for _, version in project.rows()} == {"maskal-r2"}


def test_old_objects_answer_until_there_was_time_for_the_new_ones(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.serve(1)
    before = project.like(1)
    project.serve(2)
    monkeypatch.setattr(object_index, "RENEWING_S", -1.0)
    project.photos.reads.clear()
    found = project.like(1)
    assert project.photos.reads == [1] and found.tasks == before.tasks
    assert found.outdated == len(IN_TRAINING) - 1
    assert "compared by what another version than the served one, or none, found" in found.in_words()[-1]


def test_what_the_served_version_has_not_ranked_keeps_the_objects_it_has(project: Project) -> None:
    project.serve(1)
    project.like(1)
    left = IN_TRAINING[:4]
    project.serve(2, left)
    assert project.like(1).outdated == 0
    assert {task for task, version in project.rows() if version == "maskal-r2"} == set(left) - {1}
    assert {task for task, version in project.rows() if version == "maskal-r1"} == set(IN_TRAINING) - {1}


def test_the_surest_objects_are_compared(project: Project) -> None:
    regions = [{**region_of(1), "id": f"{i}", "score": 0.1} for i in range(MOST)]
    surest = {**region_of(2), "id": "surest", "score": 0.9}
    boxes = boxes_of([*regions, surest], project.place.labels, (60, 80))
    assert len(boxes) == MOST and boxes[0].tolist() == boxes_of([surest], project.place.labels, (60, 80))[0].tolist()
    drawn = [{key: value for key, value in region.items() if key != "score"} for region in [*regions, surest]]
    assert boxes_of(drawn, project.place.labels, (60, 80)).tolist() == boxes[1:2].repeat(MOST, 0).tolist()


def test_a_class_is_asked_for_by_its_annotated_objects(project: Project) -> None:
    project.serve()
    spot = next(task for task in IN_TRAINING if task % 2 == 0)
    project.server.annotate(spot)
    found = project.like_class("spot")
    assert found.wanted == "1 annotated object of spot" and len(found.tasks) == 5
    assert all(one.task % 2 == 0 and one.task != spot for one in found.tasks)
    assert all(one.task % 2 == 1 for one in project.like_class("leaf").tasks)


def test_of_several_objects_of_a_class_each_image_speaks_first(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaves = [task for task in IN_TRAINING if task % 2]
    for task in leaves[1:]:
        project.server.annotate(task, {**region_of(3), "id": "second"}, {**region_of(2), "id": "another class"})
    assert project.like_class("leaf").wanted == f"{2 * len(leaves) - 1} annotated objects of leaf"
    every = ask(project.place, project.cache, Wish(label="leaf")).features
    monkeypatch.setattr("backend.care.asked.SPOKESMEN", 3)
    few = ask(project.place, project.cache, Wish(label="leaf")).features
    middle = len(leaves) // 2
    assert len(every) < SPOKESMEN and len(few) == 3
    assert few.tolist() == every[[0, middle, len(leaves) - 1]].tolist(), "the first, one in the middle, the last"


def test_an_unknown_class_and_one_without_annotated_objects_are_told(project: Project) -> None:
    with pytest.raises(BadSetting, match="the labelling config has no label 'tree'; it has leaf, spot"):
        project.like_class("tree")
    with pytest.raises(BadSetting, match=r"no object of spot is annotated yet; outline one, or .*: --task"):
        project.like_class("spot")
    held_out = next(task for task in range(2, TASKS, 2) if task not in IN_TRAINING)
    project.server.annotate(held_out)
    with pytest.raises(BadSetting, match=rf"but in images that are held out, .* \(task {held_out}\)"):
        project.like_class("spot")


def test_an_annotated_image_that_cannot_be_read_is_passed_over_unless_there_is_no_other(project: Project) -> None:
    other = next(task for task in IN_TRAINING if task % 2 and task > 1)
    project.server.annotate(other)
    project.photos.broken.add(1)
    assert project.like_class("leaf").wanted == "1 annotated object of leaf"
    project.photos.broken.add(other)
    with pytest.raises(BadImage, match="broken"):
        project.like_class("leaf")


COLUMNS = [
    {"id": name, "target": "tasks", "parent": parent, "visibility_defaults": {"explore": True, "labeling": is_named}}
    for name, parent, is_named in (("id", None, True), ("inner_id", None, False), ("image", "data", True))
]
"""Some of those that Label Studio tells of a project whose labelling config shows `$image`."""


class Views(LabelStudio):
    """The Data Manager's tabs of one project."""

    def __init__(self) -> None:
        self.stored: dict[int, dict[str, Any]] = {}

    def request(self, method: str, path: str, **options: Any) -> Any:
        if path == "/api/dm/columns":
            return {"columns": COLUMNS}
        if method == "GET":
            return [{"id": view, "data": data} for view, data in self.stored.items()]
        view = len(self.stored) + 1 if method == "POST" else int(path.split("/")[-2])
        self.stored[view] = options["json"]["data"]
        return {"id": view}


def test_there_is_one_tab_of_alike_tasks_which_each_question_takes_over() -> None:
    views = Views()
    queue = provide_next(views, 1, None)
    first = provide_like(views, 1, "task 7", [3, 4])
    assert provide_like(views, 1, "cate eye", [5]) == first != queue
    shown = tabs(views, 1)[first]
    assert shown["title"] == "Like cate eye (MaskAL)"
    assert [item["value"] for item in shown["filters"]["items"]] == [5]
    assert find_like(views, 1) == (first, shown)
    assert shown["hiddenColumns"]["explore"] == ["tasks:inner_id"], "the image is in sight"


def test_open_tasks_of_which_no_image_can_be_read_are_not_said_to_be_done(project: Project) -> None:
    project.photos.broken.update(task for task in IN_TRAINING if task > 1)
    none, left_out = project.like(1).in_words()
    assert none == "no other open task can be compared"
    assert left_out.startswith(f"{len(IN_TRAINING) - 1} open tasks are left out, as their images cannot be read")
    assert Found("task 1", (), 0, 0).in_words() == ["no other task is open that may be chosen"]


def test_one_task_that_later_answers_catch_up_with_is_told_as_one() -> None:
    told = Found("task 1", (Like(2, 0.5),), 0, 1).in_words()[-1]
    assert told.startswith("1 open task is compared by what another version") and "found in it;" in told
