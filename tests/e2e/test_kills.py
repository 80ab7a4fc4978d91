"""A round whose worker is killed (SIGKILL) in the middle of a step goes on in another process, from where it was."""

from __future__ import annotations

import multiprocessing
import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from backend.demo.stack import Stack
from backend.project.folder import ProjectFolder
from backend.project.workplace import open_workplace
from backend.queue.locks import held
from backend.rounds import steps
from backend.rounds.folder import Round, start_round
from backend.settings import Settings

pytestmark = pytest.mark.e2e

STEPS, CHECKPOINT = 60, 10


def run_until(settings: Settings, folder: Path, number: int, step: str, share: float) -> None:
    """A worker that is killed as soon as a step has come so far."""

    def report(name: str, done: float, **details: Any) -> None:
        if name == step and done >= share:
            os.kill(os.getpid(), signal.SIGKILL)

    place = open_workplace(settings, ProjectFolder(folder))
    steps.run(place, Round(place.folder.rounds / str(number)), report)


@pytest.mark.parametrize(
    ("step", "share"),
    [("read", 0.5), ("train", 0.6), ("evaluate", 0.0), ("rank", 0.5), ("push", 1.0), ("publish", 0.0)],
)
def test_a_killed_round_goes_on(stack: Stack, make_project, step: str, share: float) -> None:
    redis = Redis.from_url(stack.settings.redis_url)
    told: list[tuple[str, float]] = []
    with ExitStack() as ours:
        keep_workers_away = lambda project: ours.enter_context(held(redis, f"round:{project.uid}"))  # noqa: E731
        project, folder, _ = make_project(
            f"killed at {step}", 12, 8, keep_workers_away, initial_datasize=8, checkpoint_period=CHECKPOINT
        )
        begun = start_round(folder, 0)
        arguments = (stack.settings, folder.path, begun.state.number, step, share)
        child = multiprocessing.get_context("spawn").Process(target=run_until, args=arguments)
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        snapshot = Round(begun.path).snapshot()
        steps.run(
            open_workplace(stack.settings, folder),
            resumed := Round(begun.path),
            lambda name, done, **details: told.append((name, done)),
        )
    assert resumed.state.state == "published"
    assert told[0][0] == step, "no step that was done is done again"
    if snapshot is not None:
        assert resumed.snapshot() == snapshot, "it trains on what was annotated when it began"
    if step == "train":
        first = next(done for name, done in told if name == "train" and done > 0)
        assert round(first * STEPS) == int(share * STEPS) // CHECKPOINT * CHECKPOINT + 1, "from the last checkpoint"
    if step == "rank":
        assert next(done for name, done in told if name == "rank" and done > 0) > share, "known scores are kept"
    client = stack.client()
    assert client.project(project.id).model_version == "maskal-r1"
    open_tasks = [task.id for task in client.tasks(project.id) if not task.is_labeled]
    assert [len(client.predictions(task)) for task in open_tasks] == [1] * 4
