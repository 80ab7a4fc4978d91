"""Tasks that look alike, in a tab of the real Data Manager."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

from backend.cli import main
from backend.demo.data import true_regions
from backend.demo.stack import Stack
from backend.label_studio.labels import parse_label_config
from backend.label_studio.tabs import find_like
from backend.rounds.snapshots import split_of

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_a_tab_shows_the_tasks_that_are_like_one(stack: Stack, make_project) -> None:
    project, _folder, tasks = make_project("like", 12, 0, first_images="random")
    client = stack.client()
    asked, annotated, *_ = (task for task in sorted(tasks) if split_of({}, task, project.uid) == "train")
    client.annotate(annotated, true_regions(tasks[annotated], parse_label_config(project.label_config)))
    environment = {"DATA_DIR": str(stack.settings.data_dir), "REDIS_URL": str(stack.settings.redis_url)}

    def ask(*options: str, count: int) -> tuple[list[int], str]:
        arguments = ["like", "--project", str(project.id), *options, "--count", str(count)]
        shown = CliRunner().invoke(main, arguments, env=environment)
        assert shown.exit_code == 0, shown.output
        return [int(task) for task in re.findall(r"^  task (\d+): ", shown.output, re.M)], shown.output

    label = tasks[annotated].truth.outlines[0].label
    for count, options in ((2, ("--task", str(asked))), (3, ("--label", label))):
        named, output = ask(*options, count=count)
        assert len(named) == count and set(named) < set(tasks) - {asked, annotated}
        found = find_like(client, project.id)
        assert found is not None and f"tab={found[0]}" in output
        rows = client.request("GET", "/api/tasks", params={"view": found[0], "fields": "all"})["tasks"]
        assert {row["id"] for row in rows} == set(named), "the tab shows these and no others"
    titles = [str(view["data"].get("title")) for view in _views(client, project.id)]
    assert [title for title in titles if title.startswith("Like ")] == [f"Like {label} (MaskAL)"]
    unknown = CliRunner().invoke(main, ["like", "--project", str(project.id), "--task", "999999"], env=environment)
    assert unknown.exit_code == 1 and f"project {project.id} has no task 999999" in unknown.output


def _views(client, project_id: int) -> list[dict]:
    return client.request("GET", "/api/dm/views/", params={"project": project_id})
