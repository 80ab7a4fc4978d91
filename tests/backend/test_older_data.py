"""A DATA_DIR of release 0.1, before its files named their format, goes on under today's code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from backend.project.folder import ProjectFolder, connected_projects
from backend.project.workplace import Workplace
from backend.rounds import computing, steps
from backend.rounds.folder import all_rounds, start_round, unfinished
from backend.rounds.need import need_of
from backend.rounds.new_tasks import score_new_tasks
from backend.rounds.task_queue import publish
from tests.backend.fake_label_studio import FakeLabelStudio, place_of
from tests.backend.round_places import quiet

OLD = Path(__file__).resolve().parents[1] / "data" / "without_format"
TASKS, ANNOTATED, POOL = 16, 8, 4


@pytest.fixture
def folders(tmp_path: Path) -> list[ProjectFolder]:
    """A project with a round that stands at `trained`, and one that is published and served."""
    shutil.copytree(OLD, tmp_path / "data")
    return connected_projects(tmp_path / "data")


def open_place(folder: ProjectFolder) -> tuple[Workplace, FakeLabelStudio]:
    client = FakeLabelStudio(folder.uid, TASKS, ANNOTATED)
    return place_of(folder, client), client


def test_the_fixture_is_of_the_time_before_formats() -> None:
    files = [*OLD.rglob("version.json"), *OLD.rglob("state.json")]
    assert len(files) == 3 and not any("format" in json.loads(path.read_text()) for path in files)


def test_a_trained_round_is_taken_to_its_end(folders: list[ProjectFolder]) -> None:
    place, client = open_place(folders[0])
    current = unfinished(folders[0])
    assert current is not None and current.state.state == "trained"
    told: list[str] = []
    steps.run(place, current, lambda step, share, **details: told.append(step))
    assert told[0] == "evaluate", "what was trained is not trained again"
    assert (current.state.state, client.model_version) == ("published", "maskal-r1")
    assert client.model_versions(1) == {"maskal-r1": TASKS - ANNOTATED}


def test_a_served_version_is_published_again_and_followed_by_the_next(folders: list[ProjectFolder]) -> None:
    place, client = open_place(folders[1])
    assert score_new_tasks(place, quiet, computing.score) == (TASKS - ANNOTATED, False)
    publish(client, folders[1].registry, client.project(2))  # type: ignore[arg-type]
    assert client.model_version == "maskal-r1"
    assert not need_of(place, client.project(2), in_full=True).is_due
    for task in range(ANNOTATED + 1, ANNOTATED + 1 + POOL):
        client.annotate(task)
    assert need_of(place, client.project(2), in_full=True).is_due
    steps.run(place, start_round(folders[1], 0), quiet)
    assert [r.state.state for r in all_rounds(folders[1])] == ["published", "published"]
    assert folders[1].registry.get("maskal-r2").parent == "maskal-r1"
    assert client.model_version == folders[1].registry.current() == "maskal-r2"
