from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from backend.errors import BadImage
from backend.label_studio.replaced import Replacement
from backend.project.config import ProjectConfig
from backend.project.folder import connect_folder
from backend.project.workplace import Workplace
from backend.rounds.copies_last import LateCopies, near_copies_in_words, with_copies_last
from backend.rounds.first_images import HELD_OUT, first_images_in_words, order_first_images
from backend.rounds.first_queue import read_first_queue
from backend.rounds.folder import start_round
from backend.rounds.glances import Glances, glances_folder
from backend.rounds.near_copies import FORMAT, look_for_near_copies, read_near_copies
from backend.rounds.new_tasks import late_score, score_new_tasks
from backend.rounds.scored import Scored
from backend.rounds.steps import run
from model.errors import BadCheckpoint
from model.files import read_json, write_json
from model.rankings import RankedTask
from tests.backend.fake_label_studio import FakeLabelStudio, place_of
from tests.backend.round_places import FakeImages, quiet
from tests.backend.rounds.test_task_queue import registry
from tests.textures import shot_again, textured

UID = "1.1"
TASKS = 12
SCENES = 8
"""Tasks 9 to 12 show the scenes of tasks 1 to 4 once more."""


class Shots(FakeImages):
    """What each task shows: one scene for each remainder of SCENES; the images of `broken` tasks cannot be read."""

    def __init__(self) -> None:
        self.loaded: list[int] = []
        self.broken: set[int] = set()
        self.shows: dict[int, int] = {}

    def load(self, value: object, task_id: int) -> np.ndarray:
        self.loaded.append(task_id)
        if task_id in self.broken:
            raise BadImage(f"task {task_id}: broken")
        scene = textured(self.shows.get(task_id, task_id) % SCENES)
        return scene if task_id <= SCENES else shot_again(scene, task_id)


@dataclass
class SmallMaps:
    """The image in 5 x 4 pixels, in place of what a backbone sees."""

    image: np.ndarray

    def of_image(self) -> np.ndarray:
        return cv2.resize(self.image, (5, 4), interpolation=cv2.INTER_AREA).reshape(-1).astype(np.float32)


class SmallMaker:
    def maps(self, image: np.ndarray) -> SmallMaps:
        return SmallMaps(image)


class Project:
    """A project with near copies in it, and the looks that a worker takes at it."""

    def __init__(self, data_dir: Path, annotated: int = 0, **settings: object) -> None:
        self.folder = connect_folder(data_dir, UID)
        self.folder.store_config(ProjectConfig.model_validate({"engine": "fake", "near_copies": "last", **settings}))
        self.server, self.shots, self.opened = FakeLabelStudio(UID, TASKS, annotated), Shots(), 0

    @property
    def place(self) -> Workplace:
        return place_of(self.folder, self.server, self.shots)

    def open_cache(self) -> SmallMaker:
        self.opened += 1
        return SmallMaker()

    def look(self, *, in_full: bool = False, budget_s: float = 60.0) -> bool:
        project = self.server.project(1)
        return look_for_near_copies(self.place, project, self.open_cache, quiet, in_full=in_full, budget_s=budget_s)

    def pairs(self) -> set[tuple[int, int]]:
        twins = read_near_copies(self.folder).twins
        return {(one, other) for one, others in twins.items() for other in others if one < other}


ALL = {(1, 9), (2, 10), (3, 11), (4, 12)}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_a_look_finds_the_copies_once_and_opens_nothing_while_nothing_is_new(project: Project) -> None:
    assert not project.look() and project.pairs() == ALL
    loaded = len(project.shots.loaded)
    assert loaded == TASKS and project.opened == 1
    assert not project.look() and not project.look(in_full=True)
    assert len(project.shots.loaded) == loaded and project.opened == 1


def test_looks_stop_at_their_time_and_go_on_where_they_were(project: Project) -> None:
    looks = 1
    while project.look(budget_s=-1):
        looks += 1
        assert read_near_copies(project.folder).tasks is None
    assert looks >= TASKS and project.pairs() == ALL and len(project.shots.loaded) == TASKS


def test_a_new_task_is_compared_with_all_that_were_there(project: Project) -> None:
    project.look()
    for task in (SCENES + 5, 2 * SCENES + 5):
        project.server.annotations[task], project.server.stored[task] = [], []
    project.look()
    assert project.pairs() == ALL | {(5, 13), (5, 21), (13, 21)}
    assert sorted(project.shots.loaded) == [*range(1, TASKS + 1), 13, 21], "the others were known at a glance"


def test_an_image_whose_small_picture_is_gone_is_loaded_again(project: Project) -> None:
    project.look()
    shutil.rmtree(glances_folder(project.folder.data_dir))
    project.server.annotations[13], project.server.stored[13] = [], []
    project.shots.broken = {7}
    project.look()
    assert (5, 13) in project.pairs() and project.shots.loaded.count(5) == 2


def test_near_copies_are_kept_where_the_settings_say_so_or_nothing_is_learned(tmp_path: Path) -> None:
    keeping = Project(tmp_path, near_copies="keep")
    assert not keeping.look() and not keeping.shots.loaded
    rows = [row(1, 0.1), row(9, 0.2)]
    assert with_copies_last(keeping.place, rows, {}) == tuple(rows)
    assert ProjectConfig().moves_near_copies and not ProjectConfig(engine="fake").moves_near_copies
    assert not ProjectConfig.model_validate({"preset": "maskal"}).moves_near_copies


def test_missing_weights_are_told_once_and_tried_again_in_an_hour(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    def no_weights() -> SmallMaker:
        project.opened += 1
        raise BadCheckpoint("the weights package is not installed")

    place, now = project.place, project.server.project(1)
    for _ in range(3):
        assert not look_for_near_copies(place, now, no_weights, quiet, in_full=False)
    look_for_near_copies(place, now, no_weights, quiet, in_full=True)
    assert project.opened == 2 and caplog.text.count("near copies are not looked for") == 1
    told = ["near copies are not looked for: the weights package is not installed"]
    assert list(near_copies_in_words(project.folder, ())) == told
    project.look(in_full=True)
    assert project.pairs() == ALL and list(near_copies_in_words(project.folder, ())) == []


@pytest.mark.parametrize("text", ["{", '{"format": 99}', f'{{"format": {FORMAT}}}'])
def test_what_cannot_be_read_is_found_anew(project: Project, text: str) -> None:
    project.look()
    (project.folder.path / "near_copies.json").write_text(text)
    assert project.pairs() == set()
    project.look()
    assert project.pairs() == ALL


def test_an_exchanged_image_is_compared_anew(project: Project) -> None:
    project.look()
    path = project.folder.path / "near_copies.json"
    stored = read_json(path)
    pairs = [pair for pair in stored["pairs"] if pair != [1, 9]]
    write_json(path, {**stored, "pairs": [*pairs, [5, 9]], "images": {**stored["images"], "9": "another address"}})
    loaded = len(project.shots.loaded)
    project.look(in_full=True)
    assert project.pairs() == ALL and len(project.shots.loaded) == loaded


def test_a_replaced_image_is_compared_anew(project: Project) -> None:
    project.look()
    project.shots.shows[9] = 5
    project.shots.replacements["9.png"] = Replacement("a", 0.0)
    project.shots.loaded.clear()
    project.look(in_full=True)
    assert project.pairs() == (ALL - {(1, 9)}) | {(5, 9)} and project.shots.loaded == [9]
    project.look(in_full=True)
    assert project.shots.loaded == [9]


def test_a_replaced_image_has_another_small_picture(project: Project) -> None:
    glances = lambda: Glances(project.place, {9: "9.png"}).of(9).grey.tolist()  # noqa: E731
    before = glances()
    project.shots.shows[9] = 5
    assert glances() == before
    project.shots.replacements["9.png"] = Replacement("a", 0.0)
    assert glances() != before


def row(task: int, score: float, split: str = "train", copy_of: int | None = None) -> RankedTask:
    return RankedTask(task, score, 0, score, split, [], copy_of=copy_of)


def test_the_ranking_ends_with_the_copies_and_says_of_what(project: Project) -> None:
    project.look()
    rows = [row(9, 0.1), row(10, 0.2), row(5, 0.3), row(4, 0.4), row(6, 0.5, "val"), row(12, 0.6)]
    ranked = with_copies_last(project.place, rows, {1: "train"})
    assert [(one.task, one.place, one.copy_of) for one in ranked] == [
        (10, 0, None),
        (5, 1, None),
        (4, 2, None),
        (9, 3, 1),
        (6, 4, None),
        (12, 5, 4),
    ]
    assert [one.score for one in ranked] == sorted(one.score for one in ranked)
    assert all(one.certainty == before.score for one in ranked for before in rows if before.task == one.task)
    drawn = [replace(one, is_control=one.task in (9, 5)) for one in rows]
    still_drawn = [one.task for one in with_copies_last(project.place, drawn, {1: "train"}) if one.is_control]
    assert still_drawn == [5], "a copy stands where it is not by chance"
    versions = registry(project.folder.path, (1, None))
    versions.write_ranking("maskal-r1", ranked)
    versions.set_current("maskal-r1")
    assert list(near_copies_in_words(project.folder, {2})) == ["2 open images come last as near copies"]
    assert list(near_copies_in_words(project.folder, {9})) == ["1 open image comes last as a near copy"]
    assert list(near_copies_in_words(project.folder, None)) == [], "nobody has looked which tasks are annotated"
    project.folder.store_config(ProjectConfig(engine="fake", near_copies="keep"))
    assert list(near_copies_in_words(project.folder, {2})) == [], "they go back to their places in the next round"


def test_a_late_copy_enters_at_the_end_and_another_late_task_before_the_copies(project: Project) -> None:
    project.look()
    ranking = [row(1, 0.1), row(2, 0.999, copy_of=80)]
    copies = LateCopies(project.place, ranking, (9, 10))
    assert copies.take(9, "train") == 1
    assert copies.take(9, "val") is None, "it keeps its place until task 1 is learned from"
    assert copies.take(10, "train") is None, "task 2 is no reason, it comes last itself"
    late = LateCopies(project.place, ranking, (3, 11))
    assert [late.take(3, "train"), late.take(11, "train")] == [None, 3], "of two late ones the second is the copy"
    assert late_score(project.place, Scored(1.0, []), ranking) < 0.999
    assert late_score(project.place, Scored(0.5, []), ranking, copy_of=1) == 1.0


def test_the_first_images_are_all_different(tmp_path: Path) -> None:
    project = Project(tmp_path, first_images="coverage")
    project.look()
    order_first_images(project.place, project.open_cache, quiet, may_begin=True)
    queue = read_first_queue(project.folder)
    train = [row for row in queue.values() if row.split == "train"]
    copies = [row for row in train if row.copy_of is not None]
    assert copies and train[-len(copies) :] == copies
    assert all(row.reason == f"near copy of task {row.copy_of}" for row in copies)
    assert {tuple(sorted((row.task, row.copy_of))) for row in copies if row.copy_of is not None} <= ALL
    assert all(row.reason == HELD_OUT and row.copy_of is None for row in queue.values() if row.split != "train")
    *_, last = first_images_in_words(project.place, project.server.project(1))
    assert last.endswith("near copies") or last.endswith("near copy")


def test_copies_that_are_found_later_leave_the_front(tmp_path: Path) -> None:
    project = Project(tmp_path, first_images="coverage")
    order_first_images(project.place, project.open_cache, quiet, may_begin=True)
    assert all(row.copy_of is None for row in read_first_queue(project.folder).values())
    project.look()
    order_first_images(project.place, project.open_cache, quiet, may_begin=True)
    train = [row for row in read_first_queue(project.folder).values() if row.split == "train"]
    copies = [row for row in train if row.copy_of is not None]
    assert copies and train[-len(copies) :] == copies and project.server.rescored


def test_a_round_ranks_its_copies_last_and_a_look_lets_a_late_one_follow(tmp_path: Path) -> None:
    project = Project(tmp_path, annotated=7, train_iterations_base=2)
    project.look()
    run(project.place, start_round(project.folder, 0), quiet)
    rows = project.folder.registry.read_ranking("maskal-r1")
    splits = {row.task: row.split for row in rows}
    assert [row.copy_of for row in rows if splits[row.task] == "train"][-1] is not None
    assert {row.task: row.copy_of for row in rows if row.copy_of is not None and splits[row.task] == "train"} == {
        task: task - SCENES for task in range(9, TASKS + 1) if splits[task] == "train"
    }
    project.server.annotations[13], project.server.stored[13] = [], []
    project.look()
    score_new_tasks(project.place, quiet, lambda *wanted: ((task, Scored(0.5, [])) for task in wanted[2]))
    late = project.folder.registry.ranked_task("maskal-r1", 13)
    assert late is not None and (late.copy_of, late.score) == (5, 1.0)
