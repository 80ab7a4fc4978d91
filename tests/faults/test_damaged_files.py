"""Files of a project that are JSON, but hold another kind of value than they should."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backend.care import status
from backend.care.overview import look_over
from backend.care.words import Discretion
from backend.errors import BackendError
from backend.project.folder import connect_folder
from backend.queue.jobs import hint
from backend.workers import jobs
from model.errors import ModelError
from model.stored_json import read_as
from tests.faults.conftest import made_world
from tests.faults.label_studio import UID
from tests.faults.world import World

WRONG: tuple[Any, ...] = ([1], 3, "text", None)


@pytest.fixture(scope="module")
def learned(shared_redis: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A project with a version, and a second one that nothing is wrong with."""
    with (
        pytest.MonkeyPatch.context() as monkeypatch,
        made_world(shared_redis, tmp_path_factory.mktemp("learned"), monkeypatch) as world,
    ):
        world.assert_recovers()
        connect_folder(world.settings.data_dir, "2.2")
        yield world


def files(world: World) -> list[Path]:
    found = sorted(world.folder.path.rglob("*.json"))
    assert {"state.json", "snapshot.json", "version.json", "standing.json", "receipt.json"} <= {f.name for f in found}
    return found


def told(world: World) -> list[str]:
    """Lines of `maskal status` about both projects; the second one is whole whatever is wrong with the first."""
    lines = list(status.describe(world.settings, world.redis))
    assert any(line.startswith("project 2 (2.2), serving no version yet") for line in lines)
    return lines


def assert_told(world: World, path: Path) -> None:
    """Status names the file, or shows the project without what it held; the page and a look say no other."""
    lines = told(world)
    assert lines[0].startswith("project 1 ")
    if "is left alone" in lines[0]:
        assert str(path) in lines[0] and "restore the file or delete it" in lines[0]
    for what in (lambda: look_over(world.folder, None, Discretion(world.settings)), lambda: jobs.examine(UID)):
        try:
            what()
        except (BackendError, ModelError) as err:
            assert path.name in str(err)


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_a_file_of_another_kind_hides_no_other_project_and_ends_no_worker(learned: World, wrong: Any) -> None:
    for path in files(learned):
        whole = path.read_text()
        path.write_text(json.dumps(wrong))
        hint(learned.redis, UID)
        assert_told(learned, path)
        path.write_text(whole)
    assert "is left alone" not in "\n".join(told(learned))


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ({"a": 1}, "text"), ids=repr)
def test_nor_does_a_single_value_of_another_kind(learned: World, wrong: Any) -> None:
    for path in files(learned):
        whole = path.read_text()
        for name in json.loads(whole):
            path.write_text(json.dumps({**json.loads(whole), name: wrong}))
            lines = told(learned)
            assert "is left alone" not in lines[0] or str(path) in lines[0]
        path.write_text(whole)


def test_the_state_of_a_round_is_one_that_there_is(learned: World) -> None:
    path = learned.rounds()[-1].path / "state.json"
    whole = path.read_text()
    path.write_text(json.dumps({**read_as(path, dict[str, Any]), "state": "done"}))
    assert "a round's state must be one of started, read" in told(learned)[0] and str(path) in told(learned)[0]
    path.write_text(whole)
