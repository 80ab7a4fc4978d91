"""Task images from everywhere, as the real Label Studio names and serves them."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from backend.demo.stack import Stack
from backend.errors import BadImage, WrongToken
from backend.label_studio.client import LabelStudio
from backend.label_studio.images import Images
from tests.e2e.conftest import discs
from tests.e2e.users import add_annotator

pytestmark = pytest.mark.e2e

CONFIG = discs(1).label_config


def loader(stack: Stack, folder: Path, key: str | None = None, *allowed: str) -> Images:
    """Images with an empty cache, for a key of the server."""
    client = LabelStudio(stack.label_studio_url, key or stack.login.token)
    return Images(client, replace(stack.settings, data_dir=folder, allowed_private_hosts=allowed))


KINDS = ["legacy token", "personal access token"]


@pytest.fixture(scope="module")
def keys(stack: Stack) -> Iterator[dict[str, str]]:
    """The user's key of either kind; the personal one is revoked at the end, as a user can hold only one."""
    client = stack.client()
    personal = client.request("POST", "/api/token/", json={})["token"]
    yield dict(zip(KINDS, (stack.login.token, personal), strict=True))
    client.request("POST", "/api/token/blacklist/", json={"refresh": personal})


@pytest.fixture
def picture() -> bytes:
    return discs(1).images[0].content


@pytest.mark.parametrize("kind", KINDS)
def test_an_upload_is_loaded_with_either_kind_of_key(stack: Stack, picture: bytes, tmp_path, keys, kind: str) -> None:
    client = stack.client()
    project = client.create_project("upload", CONFIG)
    address = client.upload_image(project.id, "a.png", picture)
    (task,) = client.import_tasks(project.id, [{"data": {"image": address}}])
    images = loader(stack, tmp_path, keys[kind])
    assert images.client.auth.is_personal == kind.startswith("personal")
    assert images.load(address, task).shape == (240, 320, 3)
    (listed,) = images.client.tasks(project.id)
    assert listed.id == task, "the whole API takes the key"


def test_a_refused_key_is_told_apart_from_a_missing_image(stack: Stack, picture: bytes, tmp_path) -> None:
    client = stack.client()
    project = client.create_project("refused", CONFIG)
    address = client.upload_image(project.id, "a.png", picture)
    owner = add_annotator(stack)
    revoked = str(owner.request("POST", "/api/token/", json={})["token"])
    assert loader(stack, tmp_path / "before", revoked).load(address, 7).shape == (240, 320, 3)
    owner.request("POST", "/api/token/blacklist/", json={"refresh": revoked})
    for key in (revoked, "0" * 40):
        with pytest.raises(WrongToken, match="does not accept the"):
            loader(stack, tmp_path, key).load(address, 7)
    with pytest.raises(BadImage, match="answered 500 for the image of task 7"):  # so says Label Studio
        loader(stack, tmp_path).load("/data/upload/1/none.png", 7)


def test_local_files_are_served_by_label_studio(stack: Stack, start_again, picture: bytes, tmp_path, keys) -> None:
    folder = tmp_path / "photos" / "field"
    folder.mkdir(parents=True)
    (folder / "a b.png").write_bytes(picture)
    served = {"LOCAL_FILES_SERVING_ENABLED": "true", "LOCAL_FILES_DOCUMENT_ROOT": str(tmp_path / "photos")}
    with start_again(**served) as again:
        client = again.client()
        project = client.create_project("local files", CONFIG)
        storage = {"project": project.id, "path": str(folder), "use_blob_urls": True, "regex_filter": ".*"}
        made = client.request("POST", "/api/storages/localfiles", json=storage)
        client.request("POST", f"/api/storages/localfiles/{made['id']}/sync", json={})
        (task,) = client.tasks(project.id)
        assert "/data/local-files/?d=" in task.data["image"]
        for kind, key in keys.items():
            assert loader(again, tmp_path / kind, key).load(task.data["image"], task.id).shape == (240, 320, 3)
        outside = task.data["image"].replace("field", "elsewhere")
        with pytest.raises(BadImage, match=rf"answered 40\d for the image of task {task.id}"):
            loader(again, tmp_path).load(outside, task.id)


@pytest.fixture
def web(tmp_path: Path, picture: bytes) -> Iterator[str]:
    """A web server on a private address, with a picture."""
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / "a.png").write_bytes(picture)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(SimpleHTTPRequestHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/a.png"
    server.shutdown()
    server.server_close()


def test_a_private_web_server_needs_to_be_listed(stack: Stack, web: str, tmp_path) -> None:
    client = stack.client()
    project = client.create_project("web", CONFIG)
    client.import_tasks(project.id, [{"data": {"image": web}}])
    (task,) = client.tasks(project.id)
    with pytest.raises(BadImage, match=rf"task {task.id} lies on the private host 127\.0\.0\.1; add it to ALLOWED"):
        loader(stack, tmp_path).load(task.data["image"], task.id)
    assert loader(stack, tmp_path, None, "127.0.0.1").load(task.data["image"], task.id).shape == (240, 320, 3)


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A local S3 server; its address."""
    moto_server = pytest.importorskip("moto.server", reason="moto is not installed: pip install 'moto[server]'")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.mark.parametrize("presign", [True, False], ids=["by presigned address", "through Label Studio"])
def test_cloud_storage_is_resolved_by_label_studio(
    stack: Stack, s3: str, picture: bytes, tmp_path, keys, presign: bool
) -> None:
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
    login = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    bucket = f"photos-{presign}".lower()
    cloud = boto3.client("s3", endpoint_url=s3, region_name="us-east-1", **login)
    cloud.create_bucket(Bucket=bucket)
    cloud.put_object(Bucket=bucket, Key="field/a b.png", Body=picture)
    client = stack.client()
    project = client.create_project(f"cloud {presign}", CONFIG)
    storage = {
        "project": project.id,
        "bucket": bucket,
        "s3_endpoint": s3,
        "region_name": "us-east-1",
        "use_blob_urls": True,
        "recursive_scan": True,
        "presign": presign,
        "regex_filter": ".*png",
        **login,
    }
    made = client.request("POST", "/api/storages/s3", json=storage)
    client.request("POST", f"/api/storages/s3/{made['id']}/sync", json={})
    (task,) = client.tasks(project.id)
    assert task.data["image"] == f"s3://{bucket}/field/a b.png"
    if presign:
        with pytest.raises(BadImage, match="private host"):
            loader(stack, tmp_path).load(task.data["image"], task.id)
    allowed = ("127.0.0.1",) if presign else ()
    for kind, key in keys.items():
        images = loader(stack, tmp_path / kind, key, *allowed)
        assert images.load(task.data["image"], task.id).shape == (240, 320, 3)
    (foreign,) = client.import_tasks(project.id, [{"data": {"image": "s3://somebody-else/a.png"}}])
    with pytest.raises(BadImage, match=rf"answered \d+ for the image of task {foreign}.*storage settings"):
        loader(stack, tmp_path, None, *allowed).load("s3://somebody-else/a.png", foreign)
    cloud.delete_object(Bucket=bucket, Key="field/a b.png")
    with pytest.raises(BadImage, match=rf"answered 4\d\d for the image of task {task.id}"):
        loader(stack, tmp_path / "afterwards", None, *allowed).load(task.data["image"], task.id)
