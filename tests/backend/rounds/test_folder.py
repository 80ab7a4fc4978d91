from __future__ import annotations

import errno
import json
import time
from pathlib import Path

import pytest

from backend.errors import ImageUnavailable, LabelStudioBusy, NoDevice, WrongToken
from backend.project.config import ProjectConfig
from backend.project.folder import connect_folder
from backend.rounds.folder import STATES, Round, all_rounds, last_concluded, start_round, unfinished
from backend.rounds.steps import run
from model.errors import BadCheckpoint, NewerFormat
from tests.backend.fake_label_studio import FakeLabelStudio, place_of
from tests.backend.round_places import quiet

OF_WORK = {"weights.safetensors", "training.safetensors", "scores.jsonl", "seen_objects.bin", "pieces"}
"""Large files that nothing looks at once a round has ended."""


def leave(begun: Round) -> None:
    """What work on a round leaves there."""
    (begun.path / "pieces").mkdir()
    for name in OF_WORK:
        path = begun.path / name
        (path / "0.scores" if path.is_dir() else path).write_bytes(b"left")


def test_a_round_comes_back_with_its_state(tmp_path: Path) -> None:
    begun = start_round(connect_folder(tmp_path, "1.1"), known_number=4)
    begun.state.state, begun.state.seconds = "read", {"read": 1.5}
    begun.save()
    assert Round(begun.path).state == begun.state and begun.state.number == 5
    assert json.loads((begun.path / "state.json").read_text())["format"] == 1


def test_a_state_without_format_counts_as_the_first(tmp_path: Path) -> None:
    begun = start_round(connect_folder(tmp_path, "1.1"), 0)
    (begun.path / "state.json").write_text(json.dumps({"number": 1, "state": "trained"}))
    assert Round(begun.path).state.state == "trained"


def test_a_round_of_a_newer_release_is_refused_whole(tmp_path: Path) -> None:
    folder = connect_folder(tmp_path, "1.1")
    begun = start_round(folder, 0)
    (begun.path / "state.json").write_text(json.dumps({"format": 2, "number": 1, "stage": "trained"}))
    with pytest.raises(NewerFormat, match=r"state\.json has format 2, this release knows up to 1"):
        all_rounds(folder)


@pytest.mark.parametrize(
    ("err", "told"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "DATA_DIR cannot be used ([Errno 28] No space left on device)",
        ),
        (WrongToken("check the API key"), "WrongToken: check the API key"),
        (ImageUnavailable("photos.example gave no answer"), "ImageUnavailable: photos.example gave no answer"),
        (BadCheckpoint("restore the file"), "BadCheckpoint: restore the file"),
        (NoDevice("check `nvidia-smi`"), "NoDevice: check `nvidia-smi`"),
        (MemoryError(), "memory ran out (MemoryError)"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory:\n 9 bytes"), "memory ran out ("),
    ],
)
def test_what_mends_elsewhere_costs_no_attempt_and_is_told_in_a_line(tmp_path: Path, err: Exception, told: str) -> None:
    begun = start_round(connect_folder(tmp_path, "1.1"), 0)
    waits_s = []
    for _ in range(6):
        begun.note_failure(err)
        waits_s.append(round(begun.state.retry_at - time.time()))
    assert (begun.state.state, begun.state.attempts) == ("started", 0)
    assert waits_s == [60, 120, 240, 480, 900, 900]
    assert begun.state.error.startswith(told) and "\n" not in begun.state.error
    assert Round(begun.path).state == begun.state, "another worker goes by it"


@pytest.mark.parametrize(("err", "is_kept"), [(ImageUnavailable("no answer"), True), (BadCheckpoint("restore"), False)])
def test_a_training_goes_on_as_planned_once_a_server_of_images_answers_again(
    tmp_path: Path, err: Exception, is_kept: bool
) -> None:
    begun = start_round(connect_folder(tmp_path, "1.1"), 0)
    begun.state.state = "read"
    (begun.path / "plan.json").write_text("{}")
    begun.note_failure(err)
    assert (begun.path / "plan.json").exists() is is_kept


@pytest.mark.parametrize(("state", "is_kept"), [("read", False), ("trained", True)])
def test_a_training_that_diverged_is_tried_again_with_what_the_settings_say_by_then(
    tmp_path: Path, state: str, is_kept: bool
) -> None:
    begun = start_round(connect_folder(tmp_path, "1.1"), 0)
    begun.state.state = state
    (begun.path / "plan.json").write_text("{}")
    begun.note_failure(FloatingPointError("the training loss became nan; lower learning_rate"))
    assert ((begun.path / "plan.json").exists(), begun.state.attempts) == (is_kept, 1)


def test_a_gpu_that_failed_is_told_with_the_mend(tmp_path: Path) -> None:
    begun = start_round(connect_folder(tmp_path, "1.1"), 0)
    begun.note_failure(RuntimeError("CUDA error: unspecified launch failure\nCompile with TORCH_USE_CUDA_DSA"))
    assert begun.state.error.startswith("the GPU failed (CUDA error: unspecified launch failure Compile with")
    assert begun.state.error.endswith("or set `device: cpu`") and begun.state.attempts == 1


def test_a_busy_label_studio_is_asked_again_half_a_minute_later_each_time(tmp_path: Path) -> None:
    begun = start_round(connect_folder(tmp_path, "1.1"), 0)
    for _ in range(4):
        begun.note_failure(LabelStudioBusy("database is locked"))
        assert round(begun.state.retry_at - time.time()) == 30
    assert (begun.state.state, begun.state.attempts) == ("started", 0)


def test_rounds_are_told_by_number_whatever_else_lies_beside_them(tmp_path: Path) -> None:
    folder = connect_folder(tmp_path, "1.1")
    for _ in range(10):
        start_round(folder, 0).cancel()
    (folder.rounds / "11").mkdir()  # begun by a process that was killed at once
    (folder.rounds / "notes").mkdir()
    assert [one.state.number for one in all_rounds(folder)] == list(range(1, 11))
    assert unfinished(folder) is None and last_concluded(folder).state.number == 10
    begun = start_round(folder, 0)
    assert begun.state.number == unfinished(folder).state.number == 11


def test_an_unknown_error_costs_an_attempt(tmp_path: Path) -> None:
    begun = start_round(connect_folder(tmp_path, "1.1"), 0)
    for _ in range(3):
        begun.note_failure(RuntimeError("shapes differ"))
    assert begun.state.state == "failed" and begun.state.reason == "RuntimeError: shapes differ"


def test_a_try_that_lies_far_off_since_the_clock_was_set_back_is_due(tmp_path: Path) -> None:
    begun = start_round(connect_folder(tmp_path, "1.1"), 0)
    begun.state.retry_at = time.time() + 60
    assert begun.is_waiting
    begun.state.retry_at = time.time() + 3600
    assert not begun.is_waiting


def test_a_round_whose_workers_are_killed_waits_longer_each_time_but_not_one_that_was_handed_back(
    tmp_path: Path,
) -> None:
    begun = start_round(connect_folder(tmp_path, "1.1"), 0)
    waits_s = []
    for _ in range(4):
        begun.begin()
        waits_s.append(max(0, round(Round(begun.path).state.retry_at - time.time())))
    assert waits_s == [0, 60, 120, 240]
    begun.hand_back()
    assert not Round(begun.path).is_waiting and Round(begun.path).state.begun == 0


def test_what_only_work_on_a_round_needs_goes_when_it_ends(tmp_path: Path) -> None:
    """Also what rounds of an older release have left, as each may hold the pre-labels of all tasks."""
    folder = connect_folder(tmp_path, "1.1700000000")
    folder.store_config(ProjectConfig(engine="fake", train_iterations_base=1))
    older = start_round(folder, 0)
    older.state.state = STATES[-1]
    older.save()
    leave(older)
    current = start_round(folder, 0)
    run(place_of(folder, FakeLabelStudio(folder.uid, 12, 8)), current, quiet)
    assert current.state.state == STATES[-1] and len(folder.registry.read_ranking(current.version)) == 4
    for ended in (older, current):
        assert not OF_WORK & {path.name for path in ended.path.iterdir()}


def test_a_failed_round_leaves_nothing_that_only_work_on_it_needs(tmp_path: Path) -> None:
    begun = start_round(connect_folder(tmp_path, "1.1"), 0)
    leave(begun)
    begun.note_failure(RuntimeError("shapes differ"))
    assert {path.name for path in begun.path.iterdir()} >= OF_WORK, "it goes on"
    for _ in range(2):
        begun.note_failure(RuntimeError("shapes differ"))
    assert not OF_WORK & {path.name for path in begun.path.iterdir()}
