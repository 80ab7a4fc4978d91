from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from redis import Redis
from rq import Queue

from backend.care import status
from backend.errors import NotFound
from backend.project.config import ProjectConfig
from backend.project.folder import connect_folder, connected_projects
from backend.queue.jobs import ROUNDS, RUN_ROUND
from backend.rounds.folder import FAILED, STATES, start_round
from backend.rounds.history import note_rollback, note_version
from backend.rounds.judging import evaluate_round
from backend.rounds.learning import train_round
from backend.rounds.payoff import note_payoff
from backend.rounds.plan import Plan
from backend.rounds.reading import read_snapshot_of
from backend.rounds.snapshots import Entry, Snapshot, split_of, write_snapshot
from backend.rounds.steps import run
from backend.settings import Settings
from model.engines.base import EngineConfig
from model.files import write_json
from model.registry import VersionFields
from model.stored_weights import add_version
from model.training.loop import TrainingConfig
from tests.backend.fake_label_studio import FakeLabelStudio, place_of
from tests.backend.round_places import quiet, read_round, region_of, workplace


def lines(data_dir: Path) -> list[str]:
    return list(status.describe(Settings(data_dir=data_dir), None))


def test_what_was_chosen_for_a_training_is_shown(tmp_path: Path) -> None:
    settings = {"engine": "torchvision", "network_config": "nano", "pretrained_weights": "none"}
    place = workplace(tmp_path, train_iterations_base=1, **settings)
    current = read_round(place, 1, {1: "a", 2: "a"})
    train_round(place, current, quiet)
    evaluate_round(place, current, quiet)
    (line,) = [line for line in lines(tmp_path) if "maskal-r1:" in line]
    assert line.startswith(
        "  maskal-r1: no validation images, promoted, first version; trained 1 of 1 steps of 4 images"
    )
    assert "adamw, learning rate 0.05, cosine, rare classes 1.0 times, at 192 to 256 px, anchors of" in line


def test_a_version_that_was_rolled_back_is_said_to_be(tmp_path: Path) -> None:
    folder = connect_folder(tmp_path, "1.1")
    for number in (1, 2):
        fields = VersionFields(number, ("leaf",), "fake", {}, {"mask_ap": 0.5}, None, "", True, "as good")
        note_version(folder, add_version(folder.registry, fields, {"w": torch.zeros(1)}))
    note_rollback(folder, "maskal-r2", "maskal-r1")
    first, second = [line for line in lines(tmp_path) if "maskal-r" in line][-2:]
    assert "promoted, as good" in first
    assert "promoted and rolled back since, as good" in second


def test_what_hardly_pays_any_more_is_told_once_it_is_known(tmp_path: Path) -> None:
    folder = connect_folder(tmp_path, "1.1")
    for number in range(1, 7):
        metrics = {"mask_ap": 0.5, "interval": {"mask_ap": [0.49, 0.51]}, "training": {"images": 100 + 20 * number}}
        fields = VersionFields(number, ("leaf",), "fake", {}, metrics, None, "", True, "")
        note_version(folder, add_version(folder.registry, fields, {"w": torch.zeros(1)}))
        note_payoff(folder, folder.config(), f"maskal-r{number}")
        is_told = any(line.startswith("  more images hardly help any more: ") for line in lines(tmp_path))
        assert is_told == (number == 6)


def test_a_better_network_is_proposed_and_a_stand_in_told(tmp_path: Path) -> None:
    place = workplace(tmp_path, engine="torchvision")
    (place.folder.path / "config.yaml").write_text("engine: torchvision\n")
    note = "lite in place of maskrcnn_resnet50_fpn_v2: the COCO weights could not be downloaded"
    training = TrainingConfig(1, 1e-3)
    for network in ("nano", "lite"):
        metrics = {"training": {**asdict(training), "steps": 1, "note": note}}
        number = place.folder.registry.next_number()
        fields = VersionFields(number, ("leaf",), "torchvision", {"network": network}, metrics, None, "", True, "")
        place.folder.registry.set_current(add_version(place.folder.registry, fields, {"w": torch.zeros(1)}).name)
        has_proposal = any("set `network_config: lite`" in line for line in lines(tmp_path))
        assert has_proposal == (network == "nano")
    assert next(line for line in lines(tmp_path) if "maskal-r2:" in line).endswith(note)


def test_a_round_tells_its_stand_in_while_it_trains(tmp_path: Path) -> None:
    place = workplace(tmp_path)
    plan = Plan(("leaf",), None, EngineConfig("lite"), TrainingConfig(1, 1e-3), note="lite in place of another: why")
    current = read_round(place, 1, {1: "a"})
    write_json(current.path / "plan.json", {**asdict(plan), "new_images": []})
    assert "  note: lite in place of another: why" in lines(tmp_path)


def test_of_cancelled_rounds_the_newest_is_shown_until_another_begins(tmp_path: Path) -> None:
    place = workplace(tmp_path)
    for _ in range(2):
        start_round(place.folder, 0).cancel()
    shown = lambda: [line for line in lines(tmp_path) if line.startswith("  round")]  # noqa: E731
    assert shown() == ["  round 2 is cancelled"]
    start_round(place.folder, 0)
    assert shown() == ["  round 3 is started"]


def test_a_project_of_a_newer_release_does_not_hide_the_others(tmp_path: Path) -> None:
    newer, other = connect_folder(tmp_path, "1.1"), connect_folder(tmp_path, "2.2")
    start_round(newer, 0).cancel()
    start_round(other, 0).cancel()
    (newer.rounds / "1" / "state.json").write_text(json.dumps({"format": 2, "stage": "new"}))
    told = lines(tmp_path)
    assert told[0].startswith("project 1 (1.1) is left alone: ") and "upgrade" in told[0]
    assert told[1].startswith("project 2 (2.2), serving no version yet")


def test_a_damaged_project_is_told_and_does_not_hide_the_others(tmp_path: Path) -> None:
    damaged = connect_folder(tmp_path, "1.1")
    connect_folder(tmp_path, "2.2")
    start_round(damaged, 0)
    (damaged.rounds / "1" / "state.json").write_text("")
    told = lines(tmp_path)
    assert "project 1 (1.1) is left alone: wanted JSON in" in told[0] and "restore the file" in told[0]
    assert told[1].startswith("project 2 (2.2), serving no version yet")


def test_without_a_project_it_says_what_to_do(tmp_path: Path) -> None:
    assert "run `maskal connect`" in lines(tmp_path)[0]


def test_one_project_is_told_alone_and_an_unknown_one_is_named(tmp_path: Path) -> None:
    connect_folder(tmp_path, "1.1"), connect_folder(tmp_path, "2.2")
    settings = Settings(data_dir=tmp_path)
    told = [line for line in status.describe(settings, None, 2) if line.startswith("project")]
    assert told == ["project 2 (2.2), serving no version yet"]
    with pytest.raises(NotFound, match="project 3 is not connected"):
        list(status.describe(settings, None, 3))


def test_a_disconnected_project_is_told_no_more_until_it_is_connected_again(tmp_path: Path) -> None:
    folder = connect_folder(tmp_path, "1.1")
    folder.disconnect()
    assert "no project is connected" in lines(tmp_path)[0] and folder.rounds.is_dir()
    connect_folder(tmp_path, "1.1")
    assert lines(tmp_path)[0].startswith("project 1 (1.1)")


def test_only_the_newest_versions_and_unscored_tasks_are_told_and_the_number_of_the_others(tmp_path: Path) -> None:
    folder = connect_folder(tmp_path, "1.1")
    for number in range(1, 14):
        fields = VersionFields(number, ("leaf",), "fake", {}, {}, None, "", True, "")
        add_version(folder.registry, fields, {"w": torch.zeros(1)})
    folder.registry.set_current("maskal-r2")
    failures = {str(task): {"error": "gone", "tries": 1, "retry_at": 0.0} for task in range(1, 13)}
    write_json(folder.path / "failed_images.json", failures)
    told = lines(tmp_path)
    shown = [line.split(":")[0].strip() for line in told if line.startswith("  maskal-r")]
    assert shown == [f"maskal-r{number}" for number in (2, *range(4, 14))] and "  2 older versions" in told
    assert "  task 12 is not scored: gone" in told and not any("task 2 is not" in line for line in told)
    assert any(line.startswith("  and 2 more tasks are not scored") for line in told)


def test_one_more_than_the_newest_ones_is_told_in_the_singular(tmp_path: Path) -> None:
    place = workplace(tmp_path)
    for number in range(1, 13):
        fields = VersionFields(number, ("leaf",), "fake", {}, {}, None, "", True, "")
        add_version(place.folder.registry, fields, {"w": torch.zeros(1)})
    place.folder.registry.set_current("maskal-r2")
    current = read_round(place, 13, {1: "a"})
    write_snapshot(current.path / "snapshot.json", Snapshot((), problems=tuple(map(str, range(11)))))
    failures = {str(task): {"error": "gone", "tries": 1, "retry_at": 0.0} for task in range(1, 12)}
    write_json(place.folder.path / "failed_images.json", failures)
    told = lines(tmp_path)
    assert "  1 older version" in told
    assert "  and 1 more such note, all of them in the worker's log" in told
    assert "  and 1 more task is not scored, all of them in the worker's log" in told


def test_more_of_a_rare_class_is_offered_while_tasks_are_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect_folder(tmp_path, "1.1")
    server = FakeLabelStudio("1.1", 20, 0)
    leaf, spot = (next(t for t in range(i, 21, 2) if split_of({}, t, "1.1") == "train") for i in (1, 2))
    server.annotate(leaf, *({**region_of(leaf), "id": f"more {i}"} for i in range(9)))
    server.annotate(spot)
    monkeypatch.setattr(status, "find_project", lambda settings, folder: server.project(1))
    monkeypatch.setattr(status, "open_workplace", lambda settings, folder, project: place_of(folder, server))
    offered = "  spot is rare: 1 object is annotated, 10 of leaf; find images that may show it: "
    assert f"{offered}`maskal like --project 1 --label spot`" in lines(tmp_path)
    for task in range(1, 21):
        if task not in (leaf, spot):
            server.annotations[task] = [{"id": task, "result": [], "updated_at": "2026-01-01T00:00:00Z"}]
    told = lines(tmp_path)
    assert any("the next round" in line for line in told) and not any("rare" in line for line in told)


def test_status_says_where_no_further_round_begins_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = connect_folder(tmp_path, "1.1")
    settings = {"engine": "fake", "train_iterations_base": 2, "initial_datasize": 4, "loops": 0}
    folder.store_config(ProjectConfig.model_validate(settings))
    server = FakeLabelStudio("1.1", 20, 4)
    monkeypatch.setattr(status, "find_project", lambda settings, folder: server.project(1))
    monkeypatch.setattr(status, "open_workplace", lambda settings, folder, project: place_of(folder, server))
    run(place_of(folder, server), start_round(folder, 0), quiet)
    [told] = [line for line in lines(tmp_path) if "round" in line and "begins by itself" in line]
    assert told.startswith("  no further round begins by itself (`loops: 0` of the settings are done")


def test_while_a_round_is_under_way_nothing_is_said_of_what_the_next_one_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = connect_folder(tmp_path, "1.1")
    server = FakeLabelStudio("1.1", 20, 0)
    monkeypatch.setattr(status, "find_project", lambda settings, folder: server.project(1))
    monkeypatch.setattr(status, "open_workplace", lambda settings, folder, project: place_of(folder, server))
    assert any(line.startswith("  the next round needs") for line in lines(tmp_path))
    start_round(folder, 0)
    told = lines(tmp_path)
    assert "  round 1 is under way; what the next one needs is known after it" in told
    assert not any(line.startswith("  the next round") for line in told)


def test_a_failed_round_is_told_until_another_begins(tmp_path: Path) -> None:
    place = workplace(tmp_path)
    failed = start_round(place.folder, 0)
    failed.state.state, failed.state.error = FAILED, "RuntimeError: shapes differ"
    failed.save()
    shown = lambda: [line for line in lines(tmp_path) if line.startswith("  round")]  # noqa: E731
    assert shown() == ["  round 1 has failed, last error: RuntimeError: shapes differ"]
    start_round(place.folder, 0)
    assert shown() == ["  round 2 is started"]


def test_a_job_is_told_while_it_waits_or_works_and_no_longer(settings: Settings, redis: Redis) -> None:
    def told() -> list[str]:
        return [line for line in status.describe(settings, redis) if line.startswith("  job ")]

    (folder,) = connected_projects(settings.data_dir)
    queue = Queue(ROUNDS, connection=redis)
    job = queue.enqueue_call("backend.workers.jobs.run_round", args=(folder.uid,), job_id=RUN_ROUND.id_for(folder.uid))
    assert told() == ["  job queued: waiting 0 %"]
    job.set_status("started")
    job.meta = {"progress": {"step": "train", "percent": 43, "seconds_left": 20, "loss": 0.5}}
    job.save_meta()
    assert told() == ["  job started: train 43 %, about 1 min left, loss 0.500"]
    job.set_status("finished")
    assert told() == []


def test_tasks_that_do_not_count_are_told_the_newest_first_and_what_was_learned_from_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = place_of(connect_folder(tmp_path, "1.1"), server := FakeLabelStudio("1.1", 20, 0))
    monkeypatch.setattr(status, "find_project", lambda settings, folder: server.project(1))
    monkeypatch.setattr(status, "open_workplace", lambda settings, folder, project: place)
    for task in range(1, 13):
        server.annotate(task, {**region_of(task), "id": "odd", "value": {"polygonlabels": ["leaf"], "points": []}})
    newest = read_snapshot_of(place)[0].left_out[-1]
    concluded = start_round(place.folder, 0)
    concluded.state.state = STATES[-1]
    concluded.save()
    entries = (Entry(newest.task, newest.annotation, newest.digest, "train"),)
    write_snapshot(concluded.path / "snapshot.json", Snapshot(entries))
    told = [line for line in lines(tmp_path) if "not count" in line]
    assert [line.split()[1] for line in told[-11:-1]] == [str(task) for task in range(12, 2, -1)]
    assert [line for line in told if "maskal-r1 learned from it as if nothing were missing" in line] == [told[-11]]
    assert told[-1] == "  and 2 more annotated tasks do not count for such reasons"


def test_a_version_that_was_refused_is_told_so(tmp_path: Path) -> None:
    folder = connect_folder(tmp_path, "1.1")
    fields = VersionFields(1, ("leaf",), "fake", {}, {"mask_ap": 0.25}, None, "", False, "significantly worse")
    add_version(folder.registry, fields, {"w": torch.zeros(1)})
    assert "  maskal-r1: mask AP 0.250, refused, significantly worse" in lines(tmp_path)
