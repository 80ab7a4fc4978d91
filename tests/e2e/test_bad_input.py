"""Bad input answers clearly and loses nothing; everything here is the real Label Studio."""

from __future__ import annotations

import io
from dataclasses import replace

import httpx
import pytest
from PIL import Image
from redis import Redis

from backend.care import status
from backend.care.connect import Connection, connect
from backend.demo.data import true_regions
from backend.demo.stack import Stack
from backend.errors import BadLabelConfig, LabelStudioBusy, LabelStudioError, NotFound, WrongToken
from backend.label_studio.labels import parse_label_config
from backend.project.credentials import BASIC_USER, load_credentials
from backend.project.unreadable import Unreadable
from backend.settings import Settings
from tests.e2e.waiting import concluded, wait_for

pytestmark = pytest.mark.e2e

ONLY_CHOICES = """<View><Image name="image" value="$image"/><Choices name="c" toName="image">
<Choice value="a"/><Choice value="b"/></Choices></View>"""
NO_IMAGE = (
    """<View><Text name="text" value="$text"/><Labels name="l" toName="text"><Label value="a"/></Labels></View>"""
)


def huge_png() -> bytes:
    content = io.BytesIO()
    Image.new("1", (12000, 12000)).save(content, "PNG")
    return content.getvalue()


def test_broken_images_and_regions_are_named_and_the_rest_goes_on(stack: Stack, make_project) -> None:
    project, folder, tasks = make_project("bad input", 8, 0, initial_datasize=6)
    client, labels = stack.client(), parse_label_config(project.label_config)
    ids = list(tasks)
    good = true_regions(tasks[ids[0]], labels)
    broken_file = tasks[ids[0]].content[:300]
    addresses = [
        client.upload_image(project.id, "broken.png", broken_file),
        client.upload_image(project.id, "huge.png", huge_png()),
    ]
    open_broken, open_huge, annotated_broken = client.import_tasks(
        project.id, [{"data": {"image": address}} for address in (*addresses, addresses[0])]
    )
    client.annotate(annotated_broken, good)
    two_points = [{**good[0], "id": "bad", "value": {**good[0]["value"], "points": [[1, 1], [9, 9]]}}, *good[1:]]
    client.annotate(ids[0], two_points)
    strange = [{**good[0], "id": "odd", "value": {**good[0]["value"], "polygonlabels": ["pear"]}}]
    client.request("POST", f"/api/tasks/{ids[1]}/annotations", json={"result": strange})
    for task in ids[2:7]:
        client.annotate(task, true_regions(tasks[task], labels))

    made = wait_for(lambda: concluded(folder, 1), "the first round")
    snapshot = made.snapshot()
    assert made.state.state == "published"
    assert sorted(entry.task for entry in snapshot.entries) == sorted([annotated_broken, *ids[2:7]])
    assert f"the image of task {annotated_broken} cannot be read" in "\n".join(snapshot.problems)
    left_out = {one.task: "; ".join(one.reasons) for one in snapshot.left_out}
    assert left_out.keys() == {ids[0], ids[1]}, "not all of their regions can be read, so they do not count"
    assert "region bad" in left_out[ids[0]] and "at least 3 points" in left_out[ids[0]]
    assert "region odd" in left_out[ids[1]] and "pear is not one of tomato, plum" in left_out[ids[1]]
    failures = Unreadable(folder.path).failures()
    assert failures.keys() == {open_broken, open_huge}
    assert "12000 x 12000 px" in failures[open_huge].error and "MAX_IMAGE_MEGAPIXELS" in failures[open_huge].error
    assert client.tasks_with_version(project.id, "maskal-r1") == set(ids[7:])
    lines = "\n".join(status.describe(stack.settings, Redis.from_url(stack.settings.redis_url), project.id))
    assert f"task {open_broken} is not scored" in lines and "maskal-r1" in lines


def test_n_tasks_give_n_results_whatever_they_are(stack: Stack, make_project) -> None:
    project, folder, _ = make_project("n results", 6, 5, initial_datasize=5)
    wait_for(lambda: concluded(folder, 1), "the first round")
    listed = [{"id": task.id, "data": task.data} for task in stack.client().tasks(project.id)]
    ranked = folder.registry.read_ranking("maskal-r1")[0]
    bad = [{"id": 999_001, "data": {"image": "/data/upload/none.png"}}, {"id": 999_002, "data": {}}]
    answer = httpx.post(
        f"{stack.settings.backend_url}/p/{project.id}/predict",
        json={"tasks": [*listed, *bad], "project": project.uid, "label_config": project.label_config, "params": {}},
        auth=(BASIC_USER, load_credentials(stack.settings).basic_password),
        timeout=60,
    )
    results = answer.json()["results"]
    assert len(results) == len(listed) + 2
    assert results[-2:] == [[], []]
    by_task = dict(zip([task["id"] for task in listed], results, strict=False))
    assert by_task[ranked.task] == {"result": ranked.regions, "score": ranked.score, "model_version": "maskal-r1"}
    assert all(0 <= r["score"] <= 1 and r["model_version"] == "maskal-r1" for r in results[:-2])


@pytest.mark.parametrize(
    ("config", "message"), [(ONLY_CHOICES, "needs a PolygonLabels"), (NO_IMAGE, "needs a Polygon")]
)
def test_a_config_without_image_or_shapes_is_refused_before_anything_changes(
    stack: Stack, config: str, message: str
) -> None:
    client = stack.client()
    project = client.create_project("no shapes", config)
    with pytest.raises(BadLabelConfig, match=message):
        connect(stack.settings, Connection(project.id))
    assert client.backends(project.id) == [] and client.webhooks(project.id) == []


def test_a_wrong_token_address_or_project_is_told_apart(stack: Stack, tmp_path) -> None:
    settings = Settings(data_dir=tmp_path)
    url = stack.label_studio_url
    with pytest.raises(WrongToken, match="check the API key"):
        connect(settings, Connection(1, url, "0" * 40))
    with pytest.raises(LabelStudioBusy, match=r"no answer from Label Studio at http://127\.0\.0\.1:9"):
        connect(settings, Connection(1, "http://127.0.0.1:9", "0" * 40))
    with pytest.raises(NotFound, match="knows no /api/projects/987654"):
        connect(settings, Connection(987654, url, stack.login.token))


def test_a_backend_that_label_studio_cannot_reach_is_named_with_both_switches(stack: Stack, make_project) -> None:
    project, _, _ = make_project("unreachable", 1, 0)
    settings = replace(stack.settings, backend_url="http://127.0.0.1:9")
    with pytest.raises(LabelStudioError, match=r"ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false"):
        connect(settings, Connection(project.id))
