"""Label Studio behind a real nginx: under a sub-path, by a public name, and with a limit of what a call may hold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from backend.care.connect import Connection, connect
from backend.care.doctor import CHECKS, examine
from backend.demo.data import import_images
from backend.demo.stack import Stack, start_backend
from backend.errors import BadImage, LabelStudioBusy, LabelStudioError, TooLarge
from backend.folders.exporting import ExportOptions, export_records
from backend.folders.importing import ImportOptions, import_records
from backend.label_studio.client import LabelStudio
from backend.label_studio.images import Images
from backend.label_studio.labels import parse_label_config
from backend.label_studio.pushing import Pusher
from backend.project.config import ProjectConfig
from backend.project.folder import find_folder
from backend.system.processes import Processes, free_port
from model.rankings import RankedTask
from tests.e2e.conftest import discs
from tests.e2e.nginx import nginx
from tests.e2e.waiting import concluded, wait_for

pytestmark = pytest.mark.e2e

MEGABYTE = 1 << 20
"""nginx's own limit of a call."""


def at(port: int, place: str) -> str:
    return f"listen 127.0.0.1:{port}; location / {{ {place} }}"


@pytest.fixture(scope="module")
def proxies(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Addresses of one nginx: before Label Studio, a dead server, the web with its pictures, and leading on to TLS."""
    ports = {name: free_port() for name in ("label studio", "dead", "web", "leads on")}
    folder = tmp_path_factory.mktemp("nginx")
    (folder / "a.png").write_bytes(discs(1).images[0].content)
    servers = (
        at(ports["label studio"], f"proxy_pass {stack.label_studio_url};"),
        at(ports["dead"], "proxy_pass http://127.0.0.1:9;"),
        at(ports["web"], f"root {folder};"),
        at(ports["leads on"], "return 301 https://studio.example$request_uri;"),
    )
    with nginx(folder, *servers):
        yield {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}


def rows(tasks: list[int], points: int) -> list[RankedTask]:
    """A queue of predictions, each with an outline of so many points, 16 bytes each."""
    value = {"points": [[12.34, 56.78]] * points, "closed": True, "polygonlabels": ["plum"]}
    region = {"id": "r", "type": "polygonlabels", "from_name": "label", "to_name": "image", "value": value}
    return [RankedTask(task, 0.5, place, place / len(tasks), "train", [region]) for place, task in enumerate(tasks)]


def test_a_push_goes_on_in_calls_that_the_proxy_takes(stack: Stack, proxies, tmp_path, monkeypatch) -> None:
    client = LabelStudio(proxies["label studio"], stack.login.token)
    data = discs(1)
    project = client.create_project("limit", data.label_config)
    address = client.upload_image(project.id, "a.png", data.images[0].content)
    tasks = client.import_tasks(project.id, [{"data": {"image": address}}] * 20)
    sent: list[int] = []
    import_predictions = client.import_predictions

    def counted(project_id: int, predictions: str) -> int:
        sent.append(len(predictions))
        return import_predictions(project_id, predictions)

    monkeypatch.setattr(client, "import_predictions", counted)
    for version, refused in (("maskal-r1", 2), ("maskal-r2", 1)):
        sent.clear()
        Pusher(client, project.id, version, tmp_path / f"push-{version}.json").push(rows(tasks, 8_000))
        assert client.model_versions(project.id)[version] == 20
        assert client.tasks_with_version(project.id, version) == set(tasks)
        assert sum(size > MEGABYTE for size in sent) == refused, "the second push knows what the proxy takes"
    assert json.loads((tmp_path / "push-limit.json").read_text())["bytes"] <= MEGABYTE

    with pytest.raises(TooLarge, match=rf"the prediction of task {tasks[0]} alone .* \(nginx: client_max_body_size\)$"):
        Pusher(client, project.id, "maskal-r3", tmp_path / "p.json").push(rows(tasks[:2], 100_000))
    assert not (tmp_path / "p.json").exists(), "it has surely not arrived"


def test_what_nginx_says_itself_is_told_without_its_html(stack: Stack, proxies) -> None:
    dead, leads_on = (LabelStudio(proxies[name], stack.login.token, attempts=1) for name in ("dead", "leads on"))
    with pytest.raises(LabelStudioBusy, match=r"answered 502 to GET /api/current-user/whoami$"):
        dead.whoami()
    with pytest.raises(LabelStudioError, match=r"leads GET .* on to https://studio\.example/api/cur.*whoami \(301\)"):
        leads_on.whoami()
    with pytest.raises(TooLarge) as caught:
        LabelStudio(proxies["label studio"], stack.login.token).upload_image(1, "a.png", bytes(2 * MEGABYTE))
    assert "<" not in str(caught.value) and "client_max_body_size" in str(caught.value)


def test_own_images_by_another_name_are_fetched_at_the_one_that_is_reached(stack: Stack, proxies, tmp_path) -> None:
    """As in tasks that were made where the browser is, while the backend is in a network of containers."""
    client, picture = stack.client(), discs(1).images[0].content
    project = client.create_project("two names", discs(1).label_config)
    public = proxies["label studio"]
    address = public + client.upload_image(project.id, "a.png", picture)
    (task,) = client.import_tasks(project.id, [{"data": {"image": address}}])
    settings = replace(stack.settings, data_dir=tmp_path)
    with pytest.raises(BadImage, match=rf"private host .* is Label Studio, set LABEL_STUDIO_PUBLIC_URL={public}$"):
        Images(client, settings, None, project.id).load(address, task)
    told = LabelStudio(stack.label_studio_url, stack.login.token, public_url=public)
    assert Images(told, settings, None, project.id).load(address, task).shape == (240, 320, 3)


def test_a_web_image_is_asked_of_the_proxy_where_nobody_else_knows_its_host(
    stack: Stack, proxies, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxies["web"])
    images = Images(stack.client(), replace(stack.settings, data_dir=tmp_path), None, 1)
    assert images.load("http://no-such-host.invalid/a.png", 7).shape == (240, 320, 3)
    with pytest.raises(BadImage, match=rf"answered 404 .*asked through the proxy {proxies['web']} of HTTP_PROXY"):
        images.load("http://no-such-host.invalid/b.png", 7)


def test_connect_says_where_another_address_of_label_studio_wins(stack: Stack, proxies, caplog) -> None:
    project = stack.client().create_project("two addresses", discs(1).label_config)
    try:
        connect(stack.settings, Connection(project.id, proxies["label studio"]))
    finally:
        connect(stack.settings, Connection(project.id))  # as the others expect it
    for whose in ("LABEL_STUDIO_URL={} in this environment wins over --url {}", "has LABEL_STUDIO_URL={} in its env"):
        assert caplog.text.count(whose.format(stack.label_studio_url, proxies["label studio"])) == 1


@pytest.mark.slow  # a second Label Studio, backend and worker: half a minute
def test_all_of_it_works_under_a_sub_path(stack: Stack, start_again, tmp_path: Path) -> None:
    port = free_port()
    host = f"http://127.0.0.1:{port}"
    public = f"{host}/label-studio"
    data = discs(8)
    with start_again(LABEL_STUDIO_HOST=public) as inner, Processes() as processes:
        stripping = f"listen 127.0.0.1:{port}; location /label-studio/ {{ proxy_pass {inner.label_studio_url}/; }}"
        with nginx(tmp_path / "nginx", stripping):
            client = LabelStudio(public, stack.login.token)
            project = client.create_project("sub-path", data.label_config)
            labels = parse_label_config(project.label_config)
            tasks = dict(import_images(client, project.id, data.images, labels, 6))
            addresses = {task.data["image"] for task in client.tasks(project.id)}
            assert all(address.startswith("/label-studio/data/upload/") for address in addresses)
            token = {"Authorization": f"Token {stack.login.token}"}
            assert httpx.get(host + addresses.pop(), headers=token).status_code == 200, "as a browser asks"

            (tmp_path / "logs").mkdir()
            backend_port = free_port()
            own = replace(
                stack.settings,
                data_dir=tmp_path / "data",
                redis_url=stack.settings.redis_url.replace("/0", "/5"),
                port=backend_port,
                backend_url=f"http://127.0.0.1:{backend_port}",
                label_studio_url=public,
            )
            start_backend(processes, own, tmp_path / "logs")
            config = ProjectConfig.model_validate(
                {"engine": "fake", "train_iterations_base": 60, "mcd_iterations": 3, "initial_datasize": 6}
            )
            connect(own, Connection(project.id, config=config))
            folder = find_folder(own.data_dir, project.id, project.uid)
            wait_for(lambda: concluded(folder, 1), "the first version")
            found = {finding.check: finding for finding in examine(own, project.id)}
            assert {name: finding.state for name, finding in found.items()} == {name: "ok" for name, _, _ in CHECKS}
            assert found["public address"].message == f"{public}, fetched at {public}"

            for number, url in enumerate((public, inner.label_studio_url)):  # a backend beside it goes round the proxy
                out = tmp_path / f"export-{number}"
                done = export_records(own, ExportOptions("coco", project.id, out, url=url))
                assert (done.images, done.problems) == (6, [])
                wanted = ImportOptions("coco", out / "annotations.json", create_project=f"again {number}", url=url)
                again = import_records(own, wanted)
                assert (again.made, again.problems) == (6, ())
                reached = LabelStudio(url, stack.login.token)
                for task in reached.tasks(again.project.id):
                    assert task.data["image"].startswith("/label-studio/data/upload/")
                    images = Images(reached, replace(own, data_dir=tmp_path / "empty"), None, project.id)
                    assert images.load(task.data["image"], task.id).shape == (240, 320, 3)
                    assert images.load(host + task.data["image"], task.id).shape == (240, 320, 3)
            assert tasks
