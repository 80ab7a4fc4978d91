"""Each check of `maskal doctor` names exactly the link that was broken, on the real Label Studio."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from backend.care.connect import Connection, connect
from backend.care.doctor import CHECKS, examine
from backend.demo.stack import Stack, environment_of, start_web_app
from backend.errors import LabelStudioError
from backend.label_studio import tabs
from backend.label_studio.client import TITLE, Project
from backend.project.config import ProjectConfig
from backend.project.credentials import BASIC_USER, SECRET_HEADER, load_credentials
from backend.project.folder import ProjectFolder, find_folder
from backend.queue.locks import held
from backend.settings import Settings
from backend.system.processes import Processes, free_port
from tests.e2e.conftest import COLOURS
from tests.e2e.waiting import concluded, wait_for

pytestmark = pytest.mark.e2e

Patient = tuple[Project, ProjectFolder]


@pytest.fixture(scope="module")
def patient(make_project) -> Patient:
    """A project that is well: version 1 is served, and its open tasks are scored."""
    project, folder, _ = make_project("patient", 8, 6, initial_datasize=6, pool_size=1000)
    wait_for(lambda: concluded(folder, 1), "the first version")
    return project, folder


@pytest.fixture
def healed(stack: Stack, patient: Patient) -> Iterator[None]:
    """At the end, set right what `connect` leaves alone, and connect again: then all must be well."""
    yield
    project, _ = patient
    options = {"maximum_annotations": 1, "show_overlap_first": False, "reveal_preannotations_interactively": False}
    stack.client().update_project(project.id, label_config=project.label_config, **options)
    connect(stack.settings, Connection(project.id))
    assert broken(stack.settings, project.id) == {}


def broken(settings: Settings, project_id: int) -> dict[str, str]:
    """The messages of the checks that are not well, by check."""
    return {f.check: f.message for f in examine(settings, project_id) if f.state in ("failed", "warning")}


def test_a_project_that_is_well_passes_every_check(stack: Stack, patient: Patient) -> None:
    states = {finding.check: finding.state for finding in examine(stack.settings, patient[0].id)}
    assert states == {name: "ok" for name, _, _ in CHECKS}


def test_the_command_prints_lines_or_json_and_fails_if_a_link_is_broken(stack: Stack, patient: Patient, healed) -> None:
    project, _ = patient

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "backend.cli", "doctor", "--project", str(project.id), *options]
        return subprocess.run(command, env=environment_of(stack.settings), capture_output=True, text=True, check=False)

    well = run("--json")
    assert well.returncode == 0 and {finding["state"] for finding in json.loads(well.stdout)} == {"ok"}
    stack.client().update_project(project.id, sampling="Sequential sampling")
    ill = run()
    assert ill.returncode == 1
    (line,) = [line for line in ill.stdout.splitlines() if line.startswith("failed")]
    assert "sampling" in line and line.endswith(f"run `maskal connect --project {project.id}`")


def set_project(**fields: Any) -> Callable[[Stack, Project], None]:
    return lambda stack, project: stack.client().update_project(project.id, **fields)


def set_webhook(**fields: Any) -> Callable[[Stack, Project], None]:
    def change(stack: Stack, project: Project) -> None:
        (hook,) = stack.client().webhooks(project.id)
        stack.client().update_webhook(hook["id"], **fields)

    return change


def remove_webhook(stack: Stack, project: Project) -> None:
    (hook,) = stack.client().webhooks(project.id)
    stack.client().delete_webhook(hook["id"])


def rename_backend(stack: Stack, project: Project) -> None:
    (row,) = stack.client().backends(project.id)
    password = load_credentials(stack.settings).basic_password
    auth = {"auth_method": "BASIC_AUTH", "basic_auth_user": BASIC_USER, "basic_auth_pass": password}
    body = {"title": "maskal-r1", "url": row["url"], "project": project.id, **auth}
    stack.client().request("PATCH", f"/api/ml/{row['id']}", json=body)


def remove_backend(stack: Stack, project: Project) -> None:
    (row,) = stack.client().backends(project.id)
    stack.client().request("DELETE", f"/api/ml/{row['id']}")


def add_a_smart_tool(stack: Stack, project: Project) -> None:
    labels = "".join(f'<Label value="{label}"/>' for label in COLOURS)
    tool = f'<RectangleLabels name="smart" toName="image" smart="true">{labels}</RectangleLabels></View>'
    stack.client().update_project(project.id, label_config=project.label_config.replace("</View>", tool))


def remove_tab(stack: Stack, project: Project) -> None:
    tabs.remove_tab(stack.client(), find_folder(stack.settings.data_dir, project.id, project.uid).tab())


def order_tab_otherwise(stack: Stack, project: Project) -> None:
    client, view = stack.client(), find_folder(stack.settings.data_dir, project.id, project.uid).tab()
    data = {**tabs.tabs(client, project.id)[view], "ordering": ["-tasks:id"], "title": "Ours"}
    client.request("PATCH", f"/api/dm/views/{view}/", json={"data": data})


def lose_a_score(stack: Stack, project: Project) -> None:
    task = stack.client().next_task(project.id)
    (prediction,) = stack.client().predictions(task.id)
    stack.client().delete_prediction(prediction["id"])


FOLLOWS = {
    "overlap": {"scores"},  # what has one of two annotations is open again, and not scored yet
    "pre-labels": {"version"},  # Label Studio forgets the version when pre-labels are switched off
}
"""What Label Studio itself breaks along with a link."""


@pytest.mark.parametrize(
    ("break_it", "check", "message"),
    [
        (set_project(sampling="Uniform sampling"), "sampling", "ignores the scores; run `maskal connect"),
        (set_project(model_version=TITLE), "version", "follows 'MaskAL', served is maskal-r1"),
        (
            rename_backend,
            "backend state",
            "title should be 'MaskAL' and no version, got 'maskal-r1'; run `maskal connect",
        ),
        (set_project(maximum_annotations=2), "overlap", "2 annotations.*maximum_annotations to 1"),
        (set_project(show_overlap_first=True), "overlap", "switch show_overlap_first off"),
        (set_project(show_collab_predictions=False), "pre-labels", "do not see the pre-labels"),
        (set_project(reveal_preannotations_interactively=True), "pre-labels", "switch 'reveal pre-annotations' off"),
        (remove_webhook, "webhook", "has no webhook to .*; run `maskal connect"),
        (set_webhook(is_active=False), "webhook", "is switched off; run `maskal connect"),
        (set_webhook(headers={SECRET_HEADER: "x"}), "webhook", "carries a wrong X-Maskal-Secret"),
        (remove_backend, "ML backend", "lists no ML backend 'MaskAL'.*; run `maskal connect"),
        (add_a_smart_tool, "backend state", "what is drawn with it is not sent to the backend; run `maskal"),
        (remove_tab, "tab", "has no tab that shows the queue; run `maskal connect"),
        (order_tab_otherwise, "tab", "the tab 'Ours' has another order or filter than the queue"),
        (lose_a_score, "scores", "1 of 2 open tasks hold a score of maskal-r1"),
    ],
)
def test_what_was_changed_in_label_studio_is_named_with_its_mend(
    stack: Stack, patient: Patient, healed, break_it: Callable[[Stack, Project], None], check: str, message: str
) -> None:
    project, _ = patient
    redis = Redis.from_url(stack.settings.redis_url)
    with held(redis, f"examine:{project.uid}", wait_s=60) as is_ours:  # else the worker may mend it before we look
        assert is_ours
        break_it(stack, project)
        found = broken(stack.settings, project.id)
    assert re.search(message, found.pop(check)), found
    assert found.keys() <= FOLLOWS.get(check, set()), "nothing else may be blamed"
    if check == "scores":
        connect(stack.settings, Connection(project.id))  # a hint; the worker puts the prediction back
        wait_for(lambda: stack.client().count_open(project.id, "maskal-r1") == 2, "the score")


def test_a_label_config_without_its_image_is_named(stack: Stack) -> None:
    client = stack.client()
    project = client.create_project("no shapes", '<View><Text name="t" value="$t"/><Choices name="c" toName="t">'
        '<Choice value="a"/><Choice value="b"/></Choices></View>')  # fmt: skip
    found = broken(stack.settings, project.id)
    assert (
        "needs a PolygonLabels, BrushLabels, BitmaskLabels, RectangleLabels or EllipseLabels control"
        in found["labelling config"]
    )
    assert f"is not connected here; run `maskal connect --project {project.id}`" in found["connected"]


def test_an_image_that_cannot_be_fetched_is_named(stack: Stack, make_project) -> None:
    project, _, _ = make_project("no image", 0, 0)
    stack.client().import_tasks(project.id, [{"data": {"image": "/data/upload/1/no.png"}}])
    assert "the server answered 500 for the image of task" in broken(stack.settings, project.id)["image"]


@pytest.mark.parametrize(
    ("changes", "check", "message"),
    [
        ({"label_studio_url": "http://127.0.0.1:9"}, "server", r"no answer from Label Studio at http://127\.0\.0\.1:9"),
        ({"label_studio_api_key": "0" * 40}, "token", "the legacy token is refused.*--api-key; legacy tokens may be"),
        ({"label_studio_api_key": "a.b.c"}, "token", "personal access token"),
        ({"redis_url": "redis://127.0.0.1:9/0"}, "redis", "no Redis answers at redis://127.0.0.1:9/0.*set REDIS_URL"),
    ],
)
def test_a_wrong_setting_is_named(stack: Stack, patient: Patient, changes: dict, check: str, message: str) -> None:
    found = broken(replace(stack.settings, **changes), patient[0].id)
    assert re.search(message, found.pop(check), re.DOTALL)
    assert found == {}


def test_an_unknown_project_is_named(stack: Stack) -> None:
    expected = f"Label Studio at {stack.label_studio_url} knows no /api/projects/987654"
    assert broken(stack.settings, 987654) == {"project": expected}


def test_another_redis_is_noticed_by_the_missing_event_and_worker(stack: Stack, patient: Patient) -> None:
    other = replace(stack.settings, redis_url=stack.settings.redis_url.replace("/0", "/1"))
    found = broken(other, patient[0].id)
    assert found.keys() == {"webhook delivery", "worker"}
    assert "did not arrive within 5 s (last one: never)" in found["webhook delivery"]
    assert "start `maskal worker`" in found["worker"]


def test_a_worker_with_another_data_dir_is_noticed(stack: Stack, patient: Patient, tmp_path: Path) -> None:
    other = replace(stack.settings, data_dir=tmp_path)
    assert broken(other, patient[0].id)["worker"].startswith("the worker uses another DATA_DIR")


def test_a_missing_gpu_is_named(stack: Stack, patient: Patient) -> None:
    project, folder = patient
    before = folder.config()
    folder.store_config(ProjectConfig.model_validate({**before.model_dump(exclude_unset=True), "device": "cuda:7"}))
    try:
        assert "device 'cuda:7' is set but cannot be used" in broken(stack.settings, project.id)["device"]
    finally:
        folder.store_config(before)


def test_a_backend_that_stopped_and_one_with_another_password_are_told_apart(
    stack: Stack, patient: Patient, healed, tmp_path
) -> None:
    project, _ = patient
    port = free_port()
    own = replace(stack.settings, port=port, backend_url=f"http://127.0.0.1:{port}")
    with Processes() as processes:
        start_web_app(processes, own, tmp_path)
        connect(own, Connection(project.id))
        assert broken(own, project.id) == {}
    found = broken(own, project.id)
    assert found.keys() == {"backend reachable"} and "start `maskal serve` there" in found["backend reachable"]
    with Processes() as processes:
        start_web_app(processes, replace(own, basic_password="another one"), tmp_path)
        found = broken(own, project.id)
        with pytest.raises(
            LabelStudioError, match="refuses the password: the `maskal serve` there has another DATA_DIR"
        ):
            connect(own, Connection(project.id))
    assert found.keys() == {"backend state"}, "events come with their own secret"
    assert "401" in found["backend state"] and "uses another DATA_DIR" in found["backend state"]


@pytest.mark.parametrize(
    ("switch", "check"),
    [("ML_BLOCK_LOCAL_IP", "backend reachable"), ("SSRF_PROTECTION_ENABLED", "webhook switch")],
)
def test_each_network_switch_is_named(stack: Stack, patient: Patient, start_again, switch: str, check: str) -> None:
    project, _ = patient
    with start_again(**{switch: "true"}) as blocking:
        found = broken(blocking.settings, project.id)
        assert found.keys() == {check} and f"start it with {switch}=false" in found[check]
        with pytest.raises(LabelStudioError, match="ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false"):
            connect(blocking.settings, Connection(project.id, backend_url=f"{stack.settings.backend_url}/again"))
    assert httpx.get(f"{stack.label_studio_url}/health").status_code == 200
