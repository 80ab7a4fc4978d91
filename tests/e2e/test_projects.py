"""Several projects, several annotators, and projects that come and go, on the real Label Studio."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from redis import Redis

from backend.care import status
from backend.care.connect import Connection, connect
from backend.care.disconnect import disconnect
from backend.care.doctor import examine
from backend.demo.data import true_regions
from backend.demo.stack import Login, Stack, find_label_studio, start_label_studio, start_web_app
from backend.errors import NotFound
from backend.label_studio import tabs
from backend.label_studio.labels import parse_label_config
from backend.project.credentials import BASIC_USER
from backend.project.folder import connect_folder, connected_projects, find_folder
from backend.project.workplace import find_project
from backend.system.processes import Processes, free_port
from backend.workers.jobs import examine_project
from model.registry import VersionFields
from model.stored_weights import add_version
from tests.e2e.conftest import COLOURS, discs
from tests.e2e.users import add_annotator
from tests.e2e.waiting import concluded, wait_for

pytestmark = pytest.mark.e2e


def test_two_projects_learn_side_by_side_without_mixing(stack: Stack, make_project) -> None:
    made = [make_project(title, 8, 5, initial_datasize=5) for title in ("left", "right")]
    client = stack.client()
    for project, folder, tasks in made:
        wait_for(lambda folder=folder: concluded(folder, 1), "both first versions")
        assert client.project(project.id).model_version == "maskal-r1"
        ranked = {row.task for row in folder.registry.read_ranking("maskal-r1")}
        assert ranked == client.tasks_with_version(project.id, "maskal-r1") < tasks.keys()


def test_three_annotators_get_the_three_least_certain_tasks_and_never_the_same(stack: Stack, make_project) -> None:
    project, folder, tasks = make_project("three annotators", 14, 6, initial_datasize=6, pool_size=100)
    wait_for(lambda: concluded(folder, 1), "the first version")
    queue = [row.task for row in sorted(folder.registry.read_ranking("maskal-r1"), key=lambda row: row.score)]
    annotators = [add_annotator(stack) for _ in range(3)]
    labels = parse_label_config(project.label_config)
    assert [annotator.next_task(project.id).id for annotator in annotators] == queue[:3]
    assert [annotator.next_task(project.id).id for annotator in annotators] == queue[:3], "each keeps what it holds"
    taken = []
    for annotator in (annotators[1], annotators[2], annotators[0], annotators[1], annotators[2]):
        task = annotator.next_task(project.id)
        annotator.annotate(task.id, true_regions(tasks[task.id], labels))
        taken.append(task.id)
    assert len(set(taken)) == 5 and set(taken) == set(queue[:5])


def test_a_deleted_project_is_left_alone_and_the_others_go_on(stack: Stack, make_project) -> None:
    doomed, doomed_folder, _ = make_project("doomed", 4, 0)
    client, redis = stack.client(), Redis.from_url(stack.settings.redis_url)
    client.request("DELETE", f"/api/projects/{doomed.id}")
    examine_project(redis, stack.settings, doomed_folder)
    with pytest.raises(NotFound, match=f"project {doomed.uid} no longer exists in Label Studio; .* is kept"):
        find_project(stack.settings, doomed_folder)
    lines = [line for line in status.describe(stack.settings, redis) if "no longer exists" in line]
    assert any(doomed.uid in line for line in lines)
    _, folder, _ = make_project("survivor", 6, 4, initial_datasize=4)
    wait_for(lambda: concluded(folder, 1), "the survivor's first version")


def test_a_backend_that_was_removed_and_added_again_goes_on_with_its_versions(stack: Stack, make_project) -> None:
    project, folder, _ = make_project("again", 7, 4, initial_datasize=4)
    client = stack.client()
    wait_for(lambda: concluded(folder, 1), "the first version")
    (row,) = client.backends(project.id)
    client.request("DELETE", f"/api/ml/{row['id']}")
    broken = {f.check for f in examine(stack.settings, project.id) if f.state == "failed"}
    assert broken == {"ML backend"}
    by_hand = {"project": project.id, "url": row["url"], "title": "by hand", "auth_method": "BASIC_AUTH"}
    by_hand |= {"basic_auth_user": BASIC_USER, "basic_auth_pass": "a guess"}
    with pytest.raises(Exception, match="401"):
        client.request("POST", "/api/ml", json=by_hand, retry=False)
    connect(stack.settings, Connection(project.id))
    assert [f for f in examine(stack.settings, project.id) if f.state == "failed"] == []
    assert client.project(project.id).model_version == "maskal-r1"
    assert client.next_task(project.id).id == folder.registry.read_ranking("maskal-r1")[0].task


def test_a_project_that_is_disconnected_is_left_as_it_was_and_goes_on_when_connected_again(
    stack: Stack, make_project
) -> None:
    project, folder, _ = make_project("disconnected", 7, 4, initial_datasize=4)
    client, redis = stack.client(), Redis.from_url(stack.settings.redis_url)
    wait_for(lambda: concluded(folder, 1), "the first version")
    told = disconnect(stack.settings, redis, folder)
    assert f"project {project.id} is disconnected; removed: backend, webhook, tab; its versions are kept" in told
    assert client.backends(project.id) == [] and client.webhooks(project.id) == []
    assert [tab["title"] for tab in tabs.tabs(client, project.id).values()] == ["Default"]
    assert set(client.model_versions(project.id)) == {"maskal-r1"}, "what annotators see stays"
    assert project.uid not in [other.uid for other in connected_projects(stack.settings.data_dir)]
    with pytest.raises(NotFound, match="is not connected; run `maskal connect"):
        find_folder(stack.settings.data_dir, project.id)
    connect(stack.settings, Connection(project.id, stack.label_studio_url, stack.login.token))
    assert find_folder(stack.settings.data_dir, project.id).registry.current() == "maskal-r1"
    assert [f for f in examine(stack.settings, project.id) if f.state == "failed"] == []
    disconnect(stack.settings, redis, folder, is_deleted=True)
    assert not folder.path.exists()


def test_a_fresh_database_never_meets_the_versions_of_an_old_one(stack: Stack, tmp_path) -> None:
    """Project 1 of a new Label Studio, with the DATA_DIR of an old one that had a project 1 as well."""
    login = Login("new@example.com", "a-password", "b" * 40)
    url, port, data_dir = f"http://127.0.0.1:{free_port()}", free_port(), tmp_path / "data"
    with Processes() as processes:
        (tmp_path / "logs").mkdir()
        start_label_studio(processes, tmp_path, url, login, executable=find_label_studio(stack.settings))
        own = replace(stack.settings, data_dir=data_dir, label_studio_url=url, label_studio_api_key=login.token)
        own = replace(own, port=port, backend_url=f"http://127.0.0.1:{port}")
        project = Stack(url, login, own).client().create_project("fresh", discs(1).label_config)
        old = connect_folder(data_dir, f"{project.id}.1600000000")
        fields = VersionFields(7, tuple(COLOURS), "fake", {}, {}, None, "", True, "")
        add_version(old.registry, fields, {"colours": torch.zeros(2, 3)})
        old.registry.set_current("maskal-r7")
        findings = {f.check: f.message for f in examine(own, project.id)}
        assert f"{old.uid} of another Label Studio is, and stays as it is" in findings["connected"]
        told = status.describe(own, Redis.from_url(stack.settings.redis_url))
        assert any(f"project {old.uid} is not in this Label Studio" in line for line in told)

        start_web_app(processes, own, tmp_path)
        connect(own, Connection(project.id))
        broken = {f.check for f in examine(own, project.id) if f.state == "failed"}
        assert broken == {"worker"}, "the worker of this test belongs to another DATA_DIR"
        lines = list(status.describe(own, Redis.from_url(stack.settings.redis_url)))
    folder = find_folder(data_dir, project.id)
    assert folder.uid == project.uid and folder.registry.current() is None
    assert old.registry.current() == "maskal-r7", "the old versions are kept"
    assert not any(old.uid in line for line in lines), "its number is the new one's"
    assert any(f"project {project.id} ({project.uid}), serving no version yet" in line for line in lines)
