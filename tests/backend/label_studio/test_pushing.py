from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from backend.errors import LabelStudioBusy, LabelStudioError, TooLarge
from backend.label_studio import pushing
from backend.label_studio.client import Task
from backend.label_studio.pushing import Pusher
from model.files import write_json
from model.rankings import RankedTask

VERSION = "maskal-r1"


class FakeLabelStudio:
    """Keeps what is sent; a call may be cut off before or after it took effect."""

    def __init__(self, *tasks: int) -> None:
        self.there = set(tasks)
        self.held: list[int] = []
        self.calls: list[int] = []
        self.cut_off: list[str] = []
        self.late: list[int] = []

    def tasks(self, project_id: int) -> list[Task]:
        return [Task(task, {}, False) for task in sorted(self.there)]

    def model_versions(self, project_id: int) -> dict[str, int]:
        if self.late:
            self.held.append(self.late.pop())
        return {VERSION: len(self.held)} if self.held else {}

    def tasks_with_version(self, project_id: int, version: str) -> set[int]:
        return set(self.held)

    def predictions(self, task: int) -> list[dict[str, Any]]:
        return [{"model_version": VERSION} for held in self.held if held == task]

    def import_predictions(self, project_id: int, predictions: str) -> int:
        tasks = [p["task"] for p in json.loads(predictions)]
        how = self.cut_off.pop(0) if self.cut_off else None
        if how == "before":
            raise LabelStudioBusy("no answer")
        if not set(tasks) <= self.there:
            raise LabelStudioError("Label Studio answered 400: no such task")
        self.calls.append(len(tasks))
        if how == "late":
            self.late = tasks[::-1]
            raise LabelStudioBusy("no answer")
        self.held += tasks
        if how == "after":
            raise LabelStudioBusy("no answer")
        return len(tasks)


def rows(*tasks: int) -> list[RankedTask]:
    return [RankedTask(task, 0.5, place, 0.5, "train", []) for place, task in enumerate(tasks)]


@pytest.fixture
def server() -> FakeLabelStudio:
    return FakeLabelStudio(*range(100))


@pytest.fixture
def pusher(server: FakeLabelStudio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pusher:
    monkeypatch.setattr(pushing, "POLL_S", 0.01)
    return Pusher(server, 1, VERSION, tmp_path / "push.json")


class Watched(Sequence[RankedTask]):
    """Rows that note after how many calls each of them is looked at."""

    def __init__(self, rows: list[RankedTask], server: FakeLabelStudio) -> None:
        self.rows, self.server = rows, server
        self.looks: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        self.looks.append((len(self.server.calls), index))
        return self.rows[index]


def test_rows_are_looked_at_call_by_call(
    server: FakeLabelStudio, pusher: Pusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pushing, "PUSH_ROWS", 3)
    watched = Watched(rows(*range(8)), server)
    assert pusher.push(watched) == 8 and server.calls == [3, 3, 2]
    assert watched.looks == [(0, 0), (0, 1), (0, 2), (1, 3), (1, 4), (1, 5), (2, 6), (2, 7)]


@pytest.mark.parametrize("few", [0, 50])
def test_only_what_is_missing_is_sent(server: FakeLabelStudio, pusher: Pusher, monkeypatch, few: int) -> None:
    monkeypatch.setattr(pushing, "FEW", few)
    server.held = [2]
    assert pusher.push(rows(1, 2, 3)) == 2
    assert sorted(server.held) == [1, 2, 3]
    assert pusher.push(rows(1, 2, 3)) == 0


def test_tasks_deleted_meanwhile_are_left_out(server: FakeLabelStudio, pusher: Pusher) -> None:
    pusher.push(rows(1, 777, 2))
    assert server.held == [1, 2]


def test_a_call_refused_for_another_reason_is_an_error(server: FakeLabelStudio, pusher: Pusher, monkeypatch) -> None:
    def refuse(project_id: int, predictions: object) -> int:
        raise LabelStudioError("no disk left")

    monkeypatch.setattr(server, "import_predictions", refuse)
    with pytest.raises(LabelStudioError, match="no disk left"):
        pusher.push(rows(1, 2))
    assert not pusher.journal.exists(), "it has surely not arrived"


def test_predictions_that_the_server_leaves_out_in_silence_are_an_error(
    server: FakeLabelStudio, pusher: Pusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "import_predictions", lambda project_id, predictions: 1)
    with pytest.raises(LabelStudioError, match=r"took 1 of 2 predictions of maskal-r1 .* update it"):
        pusher.push(rows(1, 2))
    assert not pusher.journal.exists(), "the call is over"


def test_large_queues_go_in_few_large_calls(server: FakeLabelStudio, pusher: Pusher, monkeypatch) -> None:
    monkeypatch.setattr(pushing, "PUSH_ROWS", 4)
    shares: list[float] = []
    pusher.push(rows(*range(10)), shares.append)
    assert server.calls == [4, 4, 2] and shares == [0.4, 0.8, 1.0]
    monkeypatch.setattr(pushing, "PUSH_BYTES", 1)
    server.held, server.calls = [], []
    pusher.push(rows(1, 2))
    assert server.calls == [1, 1]


@pytest.mark.parametrize("how", ["before", "after", "late"])
def test_a_call_without_an_answer_leaves_no_duplicate_and_no_gap(
    server: FakeLabelStudio, pusher: Pusher, monkeypatch, how: str
) -> None:
    monkeypatch.setattr(pushing, "PUSH_ROWS", 4)
    monkeypatch.setattr(pushing, "LONGEST_CALL_S", 0.3)
    server.cut_off = [None, how]
    with pytest.raises(LabelStudioBusy):
        pusher.push(rows(*range(10)))
    assert pusher.push(rows(*range(10))) == (6 if how == "before" else 2)
    assert sorted(server.held) == list(range(10))
    assert not pusher.journal.exists()


def test_what_a_killed_process_sent_is_waited_for(server: FakeLabelStudio, pusher: Pusher) -> None:
    write_json(pusher.journal, {"rows": 3, "before": 0, "at": time.time()})
    server.late = [3, 2, 1]
    assert pusher.push(rows(1, 2, 3, 4)) == 1
    assert sorted(server.held) == [1, 2, 3, 4]


class Limited(FakeLabelStudio):
    """Behind a proxy that takes so many bytes a call."""

    limit, refused = 1000, 0

    def import_predictions(self, project_id: int, predictions: str) -> int:
        if len(predictions) > self.limit:
            self.refused += 1
            raise TooLarge("413; raise client_max_body_size")
        return super().import_predictions(project_id, predictions)


def test_a_call_that_a_proxy_refuses_is_halved_and_its_size_remembered(tmp_path: Path) -> None:
    server, queue = Limited(*range(100)), rows(*range(100))

    def push(version: str) -> tuple[int, int]:
        server.held, server.calls, server.refused = [], [], 0
        assert Pusher(server, 1, version, tmp_path / f"push-{version}.json").push(queue) == 100
        assert sorted(server.held) == list(range(100))
        return server.refused, len(server.calls)

    first, second = push("maskal-r2"), push("maskal-r3")
    assert first[0] >= 3 and second[0] == 1, "what passed last time is known, and twice that is tried once"
    server.limit = 10**6
    counts = [push(f"maskal-r{number}") for number in range(4, 10)]
    assert [refused for refused, _ in counts] == [0] * 6 and counts[-1] == (0, 1), "a limit that was raised is noticed"


def test_a_prediction_that_alone_is_too_large_is_named(tmp_path: Path) -> None:
    server = Limited(1, 2)
    server.limit = 50
    pusher = Pusher(server, 1, VERSION, tmp_path / "push.json")
    with pytest.raises(
        TooLarge, match=r"the prediction of task 1 alone cannot be sent: 413; raise client_max_body_size"
    ):
        pusher.push(rows(1, 2))
    assert not pusher.journal.exists()
