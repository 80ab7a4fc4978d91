"""Images that are replaced under their addresses, and those that only seem to be."""

from __future__ import annotations

import io
import shutil
import time
from email.utils import formatdate
from pathlib import Path

import pytest
from PIL import Image

from backend.label_studio.client import LabelStudio
from backend.label_studio.images import Images
from backend.settings import Settings
from tests.backend.image_servers import Server, images, png


def a_day_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    later = time.time() + 86_401
    monkeypatch.setattr("backend.label_studio.etags.time.time", lambda: later)


def test_an_image_that_was_replaced_under_its_address_is_fetched_again(
    servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cameras use their names again; a network must not learn the new outlines on the old photo."""
    loader = images(servers[0], tmp_path, allowed_private_hosts=("127.0.0.1",))
    for server, uri in ((servers[0], "/data/local-files/?d=a.png"), (servers[1], f"{servers[1].url}/b.png")):
        path = uri.removeprefix(server.url)
        server.files[path], server.etags[path] = png(20, 10), 'W/"1"'
        assert loader.load(uri, 7).shape == (10, 20, 3)
        server.files[path], server.etags[path] = png(40, 30), 'W/"2"'
        assert loader.load(uri, 7).shape == (10, 20, 3), "asked again too soon"
        with monkeypatch.context() as patched:
            a_day_passes(patched)
            assert loader.load(uri, 7).shape == (30, 40, 3)
            asked = len(server.seen)
            assert loader.load(uri, 7).shape == (30, 40, 3) and len(server.seen) == asked


def replaced_in_a_day(server: Server, loader: Images, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another image takes the place of one that was fetched, and is noticed."""
    path = uri.removeprefix(server.url)
    server.files[path], server.etags[path] = png(20, 10), '"1"'
    loader.load(uri, 7)
    assert loader.replaced(uri) is None
    server.files[path], server.etags[path] = png(20, 10), '"2"'
    a_day_passes(monkeypatch)
    loader.load(uri, 7)


def test_a_replaced_image_is_told_once_and_remembered_beside_the_cache(
    label_studio: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loader = images(label_studio, tmp_path)
    label_studio.dates["/data/local-files/?d=a.png"] = formatdate(time.time() + 3600, usegmt=True)
    replaced_in_a_day(label_studio, loader, "/data/local-files/?d=a.png", monkeypatch)
    shutil.rmtree(tmp_path / "cache")
    again = images(label_studio, tmp_path)
    again.load("/data/local-files/?d=a.png", 7)
    found = again.replaced(" /data/local-files/?d=a.png ")
    assert found is not None and found.at == pytest.approx(time.time() - 86_401 + 3600, abs=60), "as its server says"
    told = "the image of task 7 was replaced at its address, /data/local-files/?d=a.png"
    assert caplog.messages == [told]
    assert again.replaced("/other.png") is None and again.replaced(None) is None


def test_what_may_be_secret_in_a_replaced_images_address_is_not_told(
    servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loader = images(servers[0], tmp_path, allowed_private_hosts=("127.0.0.1",))
    replaced_in_a_day(servers[1], loader, f"{servers[1].url}/a.png?signature=secret", monkeypatch)
    assert caplog.messages == [f"the image of task 7 was replaced at its address, {servers[1].url}/a.png"]


def test_the_same_image_under_another_name_was_not_replaced(
    label_studio: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As where a server was moved, whose ETags say when each of its files was copied, or an optimizer packed it."""
    content = png(20, 10)
    again = io.BytesIO()
    Image.open(io.BytesIO(content)).save(again, "PNG", compress_level=1)
    assert again.getvalue() != content
    loader = images(label_studio, tmp_path)
    label_studio.files["/a.png"], label_studio.etags["/a.png"] = content, '"1"'
    loader.load("/a.png", 7)
    label_studio.files["/a.png"], label_studio.etags["/a.png"] = again.getvalue(), '"2"'
    a_day_passes(monkeypatch)
    loader.load("/a.png", 7)
    assert loader.replaced("/a.png") is None and not caplog.messages


@pytest.mark.parametrize("becomes", ["same", "gone", "failing", "closed", "unnamed", "damaged"])
def test_an_image_that_was_not_replaced_is_used_as_it_is_kept(
    label_studio: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, becomes: str
) -> None:
    label_studio.files["/a.png"], label_studio.etags["/a.png"] = png(20, 10), '"1"'
    loader = Images(LabelStudio(label_studio.url, "revoked"), Settings(data_dir=tmp_path))
    loader.load("/a.png", 7)
    if becomes == "gone":
        del label_studio.files["/a.png"], label_studio.etags["/a.png"]
    elif becomes == "failing":
        label_studio.failures["/a.png"] = 99
    elif becomes == "closed":
        label_studio.closed.add("/a.png")
    elif becomes == "unnamed":
        del label_studio.etags["/a.png"]
    elif becomes == "damaged":
        (told,) = loader.folder.glob("*/*.etag")
        told.write_bytes(b"cut of")
    a_day_passes(monkeypatch)
    assert [loader.load("/a.png", 7).shape for _ in range(2)] == [(10, 20, 3)] * 2
    assert len(label_studio.seen) == (1 if becomes == "damaged" else 2), "asked once a day"


def test_a_name_that_no_request_can_carry_costs_no_image(
    label_studio: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    label_studio.files["/a.png"], label_studio.etags["/a.png"] = png(20, 10), '"\u00e4"'
    loader = images(label_studio, tmp_path)
    loader.load("/a.png", 7)
    a_day_passes(monkeypatch)
    assert loader.load("/a.png", 7).shape == (10, 20, 3)


def test_a_server_that_gives_no_answer_is_not_asked_about_each_image(
    label_studio: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"/{number}.png" for number in range(3)]
    label_studio.files |= {name: png(20, 10) for name in names}
    label_studio.etags |= {name: '"1"' for name in names}
    loader = images(label_studio, tmp_path)
    for name in names:
        loader.load(name, 7)
    label_studio.shutdown()
    label_studio.server_close()
    a_day_passes(monkeypatch)
    assert [loader.load(name, 7).shape for name in names] == [(10, 20, 3)] * 3
    assert caplog.text.count("whether or not it is still the same") == 1
