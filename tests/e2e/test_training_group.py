"""A round that several processes train together, as several GPUs of one machine would; here on the CPU."""

from __future__ import annotations

import re

import psutil
import pytest
from redis import Redis

from backend.care import status
from backend.care.cancel import cancel
from backend.demo.stack import Stack
from backend.rounds.folder import Round, all_rounds
from model.files import read_json
from tests.e2e.waiting import concluded, wait_for

pytestmark = pytest.mark.e2e


def members(number: int, uid: str) -> list[psutil.Process]:
    """The processes of a round's group."""
    wanted = ["train-part", uid, str(number)]
    return [p for p in psutil.process_iter(["cmdline"]) if (p.info["cmdline"] or [])[-3:] == wanted]


def test_processes_that_train_together_make_a_version(stack: Stack, make_project) -> None:
    _, folder, _ = make_project("together", 8, 6, initial_datasize=6, device="cpu", train_processes=2)
    made = wait_for(lambda: concluded(folder, 1), "the first version")
    assert made.state.state == "published", made.state.error
    training = read_json(made.path / "training.json")
    assert (training["steps"], training["batch_size"]) == (60, 4)
    assert (made.path / "training.log").exists(), "it was trained by the launcher's processes"
    assert members(1, folder.uid) == []


def test_a_group_is_cancelled_as_a_whole_and_tells_how_far_it_is(stack: Stack, make_project) -> None:
    _, folder, _ = make_project(
        "together, cancelled", 8, 6, initial_datasize=6, device="cpu", train_processes=2, train_iterations_base=10**6
    )
    redis = Redis.from_url(stack.settings.redis_url)

    def line() -> str | None:
        lines = [line for line in status.describe(stack.settings, redis) if "job started: train " in line]
        return next((line for line in lines if "loss" in line and "min left" in line), None)

    told = wait_for(line, "the progress of the training")
    assert re.search(r"train \d %, about", told), told  # a look at all projects of the session takes some seconds
    assert len(members(1, folder.uid)) >= 2
    cancel(redis, folder)
    cancelled: Round = wait_for(lambda: concluded(folder, 1), "the end of the round")
    assert cancelled.state.state == "cancelled"
    wait_for(lambda: not members(1, folder.uid), "the end of the processes", 30)
    assert len(all_rounds(folder)) == 1
