"""Looks at projects while nothing happens, and that nothing which happens is overlooked by them."""

from __future__ import annotations

import copy
import shutil
from collections import Counter
from pathlib import Path

import pytest
from redis import Redis
from rq import Queue
from tenacity import nap

from backend.errors import BadImage, LabelStudioBusy
from backend.project.config import ProjectConfig
from backend.project.folder import ProjectFolder, connect_folder
from backend.project.unreadable import FIRST_RETRY_S, Unreadable
from backend.queue.jobs import ROUNDS, RUN_ROUND, hint, take_event
from backend.rounds.folder import start_round
from backend.rounds.receipt import Receipt
from backend.workers import jobs
from backend.workers.clock import RECONCILE_S
from backend.workers.jobs import FULL_RECONCILE_S
from backend.workers.looks import LONGEST_REST_S
from tests.backend.configs import POLYGONS
from tests.backend.fake_label_studio import FakeLabelStudio
from tests.faults.conftest import made_world
from tests.faults.label_studio import UID
from tests.faults.world import CONFIG, World

ONE = Counter({"GET /api/projects/1": 1})
OTHER = "2.1700000000"
REST = f"maskal:rest:{UID}"
SEEN = f"maskal:seen:{UID}"


class Watched:
    """A world in which Label Studio's calls are counted."""

    def __init__(self, world: World) -> None:
        self.world, self.calls = world, Counter[str]()
        world.server.watcher = self._count

    def look(self, uid: str = UID) -> Counter[str]:
        """The calls that a look makes; the ids of other projects are kept apart."""
        self.calls.clear()
        jobs.examine(uid)
        return Counter(self.calls)

    def settle(self, uid: str = UID) -> None:
        """Look until looks rest."""
        for _ in range(10):
            if self.look(uid).total() == 1:
                return
        raise AssertionError(f"the looks at {uid} never rest; the last one made {self.calls}")

    def assert_close(self) -> None:
        """The next look is a close one, and those after it rest."""
        assert self.look().total() > 1
        self.settle()

    def is_round_due(self) -> bool:
        return RUN_ROUND.id_for(UID) in Queue(ROUNDS, connection=self.world.redis).job_ids

    def _count(self, method: str, path: str, is_done: bool) -> bool:
        self.calls[f"{method} {path}"] += not is_done
        return False


@pytest.fixture(scope="module")
def learned(shared_redis: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[FakeLabelStudio, Path]:
    """A project in Label Studio and on the disk: its first version has learned from eight of the tasks."""
    with (
        pytest.MonkeyPatch.context() as monkeypatch,
        made_world(shared_redis, tmp_path_factory.mktemp("learned"), monkeypatch) as world,
    ):
        world.assert_recovers()
        return world.server.project, world.folder.path


@pytest.fixture
def resting(world: World, learned: tuple[FakeLabelStudio, Path]) -> Watched:
    """A copy of that project, looked at until nothing is left to do."""
    project, folder = learned
    world.server.project = world.server.projects[1] = copy.deepcopy(project)
    shutil.copytree(folder, world.folder.path, dirs_exist_ok=True)
    watched = Watched(world)
    watched.settle()
    return watched


def test_a_look_at_a_project_where_nothing_happens_is_one_call(resting: Watched) -> None:
    assert [resting.look() for _ in range(3)] == [ONE] * 3


def test_a_close_look_comes_in_any_case_after_less_than_five_minutes(resting: Watched) -> None:
    ttl_s = resting.world.redis.ttl(REST)
    assert 0 < ttl_s <= LONGEST_REST_S and LONGEST_REST_S + RECONCILE_S <= 300
    resting.world.redis.delete(REST)  # as that time has run out
    assert resting.look() == {**ONE, "GET /api/tasks": 1, "GET /api/projects/1/model-versions": 1}
    assert resting.look() == ONE


@pytest.mark.parametrize("tell", [hint, lambda redis, uid: take_event(redis, uid, is_forced=False)])
def test_an_event_makes_the_next_look_a_close_one(resting: Watched, tell) -> None:
    tell(resting.world.redis, UID)
    resting.assert_close()


def test_an_edit_that_moves_no_count_is_read_at_its_event(resting: Watched) -> None:
    resting.world.annotate(1)
    hint(resting.world.redis, UID)
    resting.look()
    assert newest(resting) == resting.world.server.project.newest_change(1)


def test_an_edit_that_moves_no_count_and_whose_event_was_lost_waits_for_the_close_look(resting: Watched) -> None:
    before = newest(resting)
    resting.world.annotate(1)
    assert resting.look() == ONE and newest(resting) == before
    resting.world.redis.delete(REST)
    resting.look()
    assert newest(resting) == resting.world.server.project.newest_change(1) > before


def newest(watched: Watched) -> str:
    """The newest change that the receipt knows."""
    return Receipt(watched.world.folder.path).mark() or ""


def test_all_is_read_once_an_hour_however_steadily_people_work(resting: Watched) -> None:
    assert resting.world.redis.ttl(SEEN) > FULL_RECONCILE_S - 60
    resting.world.redis.expire(SEEN, 50)  # as most of the hour has gone by
    resting.world.annotate(9)
    resting.settle()
    assert 0 < resting.world.redis.ttl(SEEN) <= 50
    resting.world.redis.delete(SEEN)  # as the hour has run out
    hint(resting.world.redis, UID)
    resting.settle()
    assert resting.world.redis.ttl(SEEN) > FULL_RECONCILE_S - 60


def test_submits_whose_events_were_lost_are_seen_at_the_next_look(resting: Watched) -> None:
    resting.world.annotate(9, 10, 11, 12)
    resting.look()
    assert resting.is_round_due()
    resting.world.assert_recovers()


def test_a_task_whose_annotation_was_deleted_is_back_in_the_queue_after_the_next_look(resting: Watched) -> None:
    project = resting.world.server.project
    project.annotations[3] = []
    resting.look()
    assert [p["model_version"] for p in project.stored[3]] == [resting.world.followed]
    resting.settle()


def test_a_task_whose_prediction_was_deleted_gets_it_back_at_the_next_look(resting: Watched) -> None:
    project = resting.world.server.project
    project.stored[10] = []
    resting.look()
    assert [p["model_version"] for p in project.stored[10]] == [resting.world.followed]
    resting.settle()


def test_an_uploaded_task_is_scored_at_the_next_look(resting: Watched) -> None:
    project = resting.world.server.project
    project.annotations[15], project.stored[15] = [], []
    resting.look()
    assert [p["model_version"] for p in project.stored[15]] == [resting.world.followed]
    resting.settle()


def test_a_changed_labelling_config_is_looked_at_closely(resting: Watched) -> None:
    resting.world.server.label_config = POLYGONS.replace("leaf", "stem")
    resting.assert_close()


def test_a_version_that_somebody_chose_by_hand_is_put_right_at_the_next_look(resting: Watched) -> None:
    served = resting.world.followed
    resting.world.server.project.model_version = "somebody"
    resting.look()
    assert resting.world.followed == served
    resting.settle()


def test_a_served_version_that_changed_is_published_by_the_next_look(resting: Watched) -> None:
    world = resting.world
    world.annotate(9, 10, 11, 12)
    world.assert_recovers()
    assert world.folder.registry.current() == "maskal-r2"
    resting.world.server.watcher = resting._count
    resting.settle()
    world.folder.registry.set_current("maskal-r1")  # as a rollback that ended there
    for row in world.folder.registry.read_ranking("maskal-r1"):
        prediction = {"id": 1000 + row.task, "model_version": "maskal-r1", "result": []}
        world.server.project.stored[row.task] = [prediction]
    resting.look()
    assert world.followed == "maskal-r1"


def test_changed_settings_count_at_the_next_look(resting: Watched) -> None:
    resting.world.annotate(9)
    resting.settle()
    assert not resting.is_round_due()
    resting.world.folder.store_config(ProjectConfig.model_validate({**CONFIG, "pool_size": 1}))
    resting.look()
    assert resting.is_round_due()


def test_an_image_that_could_not_be_read_is_tried_again_when_that_is_due(resting: Watched) -> None:
    project, failures = resting.world.server.project, Unreadable(resting.world.folder.path)
    failures.note(15, BadImage("task 15 has no image"))
    project.annotations[15], project.stored[15] = [], []
    resting.settle()
    assert project.stored[15] == [], "it waits"
    resting.world.clock.moved_s += FIRST_RETRY_S + 1
    resting.look()
    assert [p["model_version"] for p in project.stored[15]] == [resting.world.followed]


def test_old_predictions_go_as_soon_as_they_are_due(resting: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASK_LOCK_TTL", "100")
    project = resting.world.server.project
    project.stored[10].append({"id": 1000, "model_version": "maskal-r99", "result": []})
    resting.settle()
    for _ in range(2):
        resting.world.clock.moved_s += RECONCILE_S
        assert resting.look() == ONE and "maskal-r99" in project.model_versions(1)
    resting.world.clock.moved_s += RECONCILE_S
    resting.look()
    assert "maskal-r99" not in project.model_versions(1)
    resting.settle()


def test_a_round_that_waits_goes_on_when_its_time_has_come(resting: Watched) -> None:
    begun = start_round(resting.world.folder, 0)
    begun.state.retry_at = resting.world.clock() + 60
    begun.save()
    resting.settle()
    assert not resting.is_round_due()
    resting.world.clock.moved_s += 61
    assert resting.look() == ONE
    assert resting.is_round_due()


def test_a_look_that_was_cut_short_is_made_up_for(resting: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nap.time, "sleep", lambda seconds: None)
    hint(resting.world.redis, UID)
    resting.world.server.watcher = lambda method, path, is_done: path.endswith("/model-versions")
    with pytest.raises(LabelStudioBusy):
        jobs.examine(UID)
    resting.world.server.watcher = resting._count
    resting.assert_close()


@pytest.mark.parametrize("lose", [Redis.flushall, lambda redis: redis.set(REST, b"\x00torn")])
def test_what_the_last_close_look_found_may_be_lost_or_torn(resting: Watched, lose) -> None:
    lose(resting.world.redis)
    resting.assert_close()


def test_a_project_that_was_never_written_down_is_looked_at_closely(resting: Watched) -> None:
    standing = resting.world.folder.path / "standing.json"
    standing.unlink()
    resting.assert_close()
    assert standing.exists()


@pytest.fixture
def other(resting: Watched) -> ProjectFolder:
    """A second project, in which nothing happens either."""
    world = resting.world
    world.server.projects[2] = FakeLabelStudio(OTHER, tasks=4, annotated=0, first=101)
    folder = connect_folder(world.settings.data_dir, OTHER)
    folder.store_config(ProjectConfig.model_validate(CONFIG))
    resting.settle(OTHER)
    return folder


def test_what_happens_in_one_project_lets_the_other_rest(resting: Watched, other: ProjectFolder) -> None:
    hint(resting.world.redis, OTHER)
    assert resting.look() == ONE
    assert resting.look(OTHER).total() > 1
    resting.world.annotate(9)
    assert resting.look(OTHER).total() == 1
    assert resting.look().total() > 1
