"""One line about what is wrong and how to mend it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from redis import Redis

from backend.care.troubles import troubles
from backend.errors import LabelStudioBusy
from backend.project.folder import ProjectFolder, find_folder
from backend.queue.locks import held
from backend.queue.marks import note_worker
from backend.rounds.folder import FAILED, Round, start_round
from backend.settings import Settings
from model.registry import VersionFields
from model.stored_weights import add_version


@pytest.fixture
def folder(settings: Settings, redis: Redis) -> ProjectFolder:
    """Of a project that a worker looks after."""
    note_worker(redis, "fingerprint", None)
    return find_folder(settings.data_dir, 3)


def told(settings: Settings, redis: Redis | None, folder: ProjectFolder) -> list[str]:
    return list(troubles(settings, redis, folder, None, in_full=True))


def test_nothing_is_told_where_all_is_well(settings: Settings, redis: Redis, folder: ProjectFolder) -> None:
    begun = start_round(folder, 0)
    begun.begin()
    assert told(settings, redis, folder) == []


def test_redis_workers_and_label_studio_are_told_before_the_round_that_waits_for_them(
    settings: Settings, redis: Redis, folder: ProjectFolder
) -> None:
    start_round(folder, 0).note_failure(LabelStudioBusy("no answer"))
    assert "no Redis answers at redis://" in told(settings, None, folder)[0]
    outage = LabelStudioBusy("no answer; check that it runs")
    assert list(troubles(settings, redis, folder, outage, in_full=True)) == ["no answer; check that it runs"]
    assert told(settings, redis, folder) == ["round 1 stopped: LabelStudioBusy: no answer; it goes on by itself"]
    redis.flushall()
    assert told(settings, redis, folder) == ["no worker looks after the projects; start `maskal worker`"]


def test_a_data_dir_that_is_gone_is_told(redis: Redis, settings: Settings, folder: ProjectFolder) -> None:
    gone = Settings(settings.data_dir / "gone", settings.redis_url)
    [line] = told(gone, redis, folder)
    assert line.startswith(f"DATA_DIR {gone.data_dir} cannot be written (No such file") and "make room" in line


def test_damaged_weights_of_the_served_version_are_told_with_both_mends(
    settings: Settings, redis: Redis, folder: ProjectFolder
) -> None:
    fields = VersionFields(2, ("leaf",), "fake", {}, {}, None, "", True, "")
    folder.registry.set_current(add_version(folder.registry, fields, {"colours": torch.zeros(1, 3)}).name)
    assert told(settings, redis, folder) == []
    path: Path = folder.registry.weights_path("maskal-r2")
    path.write_bytes(path.read_bytes()[:-1])
    [line] = told(settings, redis, folder)
    assert line.startswith("the weights of maskal-r2, which is served, are not those that were stored")
    assert line.endswith("; restore it from a backup"), "there is no other one to serve"
    add_version(folder.registry, replace(fields, number=1), {"colours": torch.zeros(1, 3)})
    [line] = told(settings, redis, folder)
    assert line.endswith("restore it from a backup, or serve another by `maskal rollback --project 3`")


def test_a_round_that_failed_or_is_killed_again_and_again_is_told(
    settings: Settings, redis: Redis, folder: ProjectFolder
) -> None:
    begun: Round = start_round(folder, 0)
    for _ in range(3):
        begun.begin()
    with held(redis, f"round:{folder.uid}"):
        assert "killed 2 times" in told(settings, redis, folder)[0], "the third works on it"
    assert "killed 3 times" in told(settings, redis, folder)[0]
    begun.state.state, begun.state.reason = FAILED, "RuntimeError: shapes differ"
    begun.save()
    assert told(settings, redis, folder)[0].startswith("round 1 failed: RuntimeError: shapes differ; new annotations")


def test_an_error_is_told_no_more_while_a_worker_is_at_the_round_again(
    settings: Settings, redis: Redis, folder: ProjectFolder
) -> None:
    start_round(folder, 0).note_failure(LabelStudioBusy("no answer"))
    with held(redis, f"round:{folder.uid}"):
        assert told(settings, redis, folder) == []


def test_weights_are_read_only_where_it_is_about_one_project_and_a_round_in_the_way_is_cancelled_first(
    settings: Settings, redis: Redis, folder: ProjectFolder
) -> None:
    for number in (1, 2):
        fields = VersionFields(number, ("leaf",), "fake", {}, {}, None, "", True, "")
        folder.registry.set_current(add_version(folder.registry, fields, {"colours": torch.zeros(1, 3)}).name)
    folder.registry.weights_path("maskal-r2").write_bytes(b"damaged")
    start_round(folder, 2)
    [line] = told(settings, redis, folder)
    assert line.endswith("serve another by `maskal cancel --project 3` and `maskal rollback --project 3`")
    assert list(troubles(settings, redis, folder, None, in_full=False)) == []
