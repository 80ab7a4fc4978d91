from __future__ import annotations

import base64
import errno
import io
import multiprocessing
import os
import struct
import threading
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image, ImageOps

from backend.errors import BadImage, LabelStudioBusy, WrongToken
from backend.label_studio.client import LabelStudio
from backend.label_studio.images import Images
from backend.settings import Settings
from model.file_cache import trim_cache
from tests.backend.image_servers import Server, images, png


def test_an_image_is_fetched_once_with_the_key_and_then_cached(label_studio: Server, tmp_path: Path) -> None:
    label_studio.files["/data/upload/1/a.png"] = png(40, 30)
    loader = images(label_studio, tmp_path)
    first, second = loader.load("/data/upload/1/a.png", 7), loader.load("/data/upload/1/a.png", 7)
    assert first.shape == (30, 40, 3) and first.dtype == np.uint8 and (first == second).all()
    assert label_studio.seen == [("/data/upload/1/a.png", "Token the-key")]


def test_an_image_that_a_full_disk_does_not_take_is_used_all_the_same(
    label_studio: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Who draws a box waits for its outline, and not for room."""
    label_studio.files["/a.png"] = png(40, 30)
    monkeypatch.setattr(os, "fsync", lambda handle: refuse(errno.ENOSPC))
    assert images(label_studio, tmp_path).load("/a.png", 7).shape == (30, 40, 3)
    assert "cannot be kept" in caplog.text


def refuse(reason: int) -> None:
    raise OSError(reason, os.strerror(reason))


def test_a_cached_image_is_used_on_a_disk_that_can_only_be_read(
    label_studio: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    label_studio.files["/a.png"] = png(40, 30)
    images(label_studio, tmp_path).load("/a.png", 7)
    monkeypatch.setattr(os, "utime", lambda path: refuse(errno.EROFS))
    assert images(label_studio, tmp_path).load("/a.png", 7).shape == (30, 40, 3)


@pytest.mark.parametrize("orientation", range(10))
def test_the_orientation_of_the_camera_is_applied(label_studio: Server, tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    label_studio.files["/a.png"] = png(40, 30, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(label_studio.files["/a.png"])))
    assert (images(label_studio, tmp_path).load("/a.png", 7) == np.array(upright)).all()
    assert upright.size == ((30, 40) if 5 <= orientation <= 8 else (40, 30))


def test_a_sloppy_exif_costs_no_image(label_studio: Server, tmp_path: Path) -> None:
    """A camera's name of a wrong type can be read but not written again; every browser shows such an image."""
    exif, content = Image.Exif(), io.BytesIO()
    exif[0x0112], exif[0x011A] = 6, 1.5
    Image.new("RGB", (40, 30)).save(content, "JPEG", exif=exif)
    tag_of_a_number, tag_of_a_text = b"\x01\x1a\x00\x05", b"\x01\x0f\x00\x05"  # each with the type of a number
    assert content.getvalue().count(tag_of_a_number) == 1
    label_studio.files["/a.jpg"] = content.getvalue().replace(tag_of_a_number, tag_of_a_text)
    assert images(label_studio, tmp_path).load("/a.jpg", 7).shape == (40, 30, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_image_mb": 0.001}, r"image of task 7 is larger than 0\.001 MB; .*MAX_IMAGE_MB"),
        ({"max_image_megapixels": 0.01}, r"task 7 has 200 x 100 px, over the limit of 0\.01 .*MAX_IMAGE_MEGAPIXELS"),
    ],
)
def test_a_too_large_image_names_the_setting(label_studio: Server, tmp_path: Path, settings, message: str) -> None:
    label_studio.files["/a.png"] = png(200, 100)
    with pytest.raises(BadImage, match=message):
        images(label_studio, tmp_path, **settings).load("/a.png", 7)


UNKNOWN_PIXELS = b"DDS " + struct.pack("<7I44x8I20x", 124, 0x1007, 30, 40, 0, 0, 0, 32, 1 << 20, 0, 0, 0, 0, 0, 0)
"""A texture file in a format that Pillow does not know: told by NotImplementedError, not by OSError."""


@pytest.mark.parametrize(
    "content",
    [b"no image at all", b"", png(200, 100)[:2000], UNKNOWN_PIXELS],
    ids=["no image", "empty", "cut off", "unknown pixels"],
)
def test_a_broken_file_is_named_and_not_kept(label_studio: Server, tmp_path: Path, content: bytes) -> None:
    label_studio.files["/a.png"] = content
    loader = images(label_studio, tmp_path)
    with pytest.raises(BadImage, match=r"the image of task 7 cannot be read .*; replace the file"):
        loader.load("/a.png", 7)
    assert list(loader.folder.glob("*/*")) == []


@pytest.mark.parametrize("uri", [None, "", "/missing.png"])
def test_a_missing_image_is_named(label_studio: Server, tmp_path: Path, uri: str | None) -> None:
    with pytest.raises(BadImage, match="task 7"):
        images(label_studio, tmp_path).load(uri, 7)


@pytest.mark.parametrize("blanks", ["{} ", " {}", "{}\r\n", "\t{}"])
def test_blanks_around_an_address_are_none_of_it(servers, tmp_path: Path, blanks: str) -> None:
    """A CSV brings them along, and browsers leave them out."""
    label_studio, other = servers
    label_studio.files["/a.png"] = other.files["/b.png"] = png(20, 10)
    loader = images(label_studio, tmp_path, allowed_private_hosts=("127.0.0.1",))
    for uri in ("/a.png", f"{other.url}/b.png", embedded(png(20, 10))):
        assert loader.load(blanks.format(uri), 7).shape == (10, 20, 3)


@pytest.mark.parametrize(
    "uri",
    [
        "ftp://example.org/a.png",
        "http://no-such-host.invalid/a.png",
        "http:///a.png",
        "http://example.org:port/a.png",
        "http://example..org/a.png",
        "https://xn--zz--.org/a.png",
        "http://example.org/" + "a" * 70_000,
        "/data/upload/1/a\n.png",
    ],
    ids=lambda uri: repr(uri[:32]),
)
def test_an_address_that_leads_nowhere_is_named(label_studio: Server, tmp_path: Path, uri: str) -> None:
    with pytest.raises(BadImage, match="task 7"):
        images(label_studio, tmp_path).load(uri, 7)


def test_a_passing_failure_is_tried_again_and_a_lasting_one_is_a_bad_image(servers, tmp_path: Path) -> None:
    """A server error about one image must not stop the round as an unreachable Label Studio does."""
    label_studio, _ = servers
    label_studio.files["/a.png"] = png(20, 10)
    label_studio.failures["/a.png"] = 2
    assert images(label_studio, tmp_path).load("/a.png", 7).shape == (10, 20, 3)
    label_studio.failures["/b.png"] = 99
    with pytest.raises(BadImage, match="answered 503 for the image of task 7"):
        images(label_studio, tmp_path).load("/b.png", 7)
    dead = Images(LabelStudio("http://127.0.0.1:9", "the-key"), Settings(data_dir=tmp_path))
    with pytest.raises(LabelStudioBusy):
        dead.load("/a.png", 7)


def test_a_refused_key_is_no_fault_of_the_image(label_studio: Server, tmp_path: Path) -> None:
    """All images would fail alike; a round that went on would lose every annotation."""
    label_studio.closed.add("/a.png")
    loader = Images(LabelStudio(label_studio.url, "revoked"), Settings(data_dir=tmp_path))
    with pytest.raises(WrongToken, match="does not accept the API key for the image of task 7"):
        loader.load("/a.png", 7)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\ncut off",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 8\r\n\r\nno gzip!",
    ],
    ids=["cut off", "wrongly packed"],
)
def test_an_image_that_breaks_off_is_named(label_studio: Server, answering, tmp_path: Path, answer: bytes) -> None:
    url = answering(answer)
    settings = Settings(data_dir=tmp_path, allowed_private_hosts=("127.0.0.1",))
    for server in (label_studio.url, url):  # Label Studio too: it cuts off what it hands on from a slow cloud storage
        with pytest.raises(BadImage, match=r"the image of task 7 broke off on its way from 127\.0\.0\.1"):
            Images(LabelStudio(server, "the-key"), settings).load(f"{url}/a.png", 7)


def test_a_broken_file_in_the_cache_is_fetched_again(label_studio: Server, tmp_path: Path) -> None:
    label_studio.files["/a.png"] = png(20, 10)
    loader = images(label_studio, tmp_path)
    loader.load("/a.png", 7)
    (cached,) = loader.folder.glob("*/*")
    cached.write_bytes(b"cut off")
    assert loader.load("/a.png", 7).shape == (10, 20, 3)
    assert cached.read_bytes() == label_studio.files["/a.png"]


def load_in_process(url: str, folder: Path, results: multiprocessing.Queue) -> None:
    loader = Images(LabelStudio(url, "the-key"), Settings(data_dir=folder))
    results.put(loader.load("/a.png", 7).shape)


def test_two_processes_fetch_the_same_image_at_once(label_studio: Server, tmp_path: Path) -> None:
    label_studio.files["/a.png"] = png(20, 10)
    label_studio.together["/a.png"] = threading.Barrier(2)  # neither is answered before both have asked
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    both = [spawn.Process(target=load_in_process, args=(label_studio.url, tmp_path, results)) for _ in range(2)]
    for process in both:
        process.start()
    assert [results.get(timeout=120) for _ in both] == [(10, 20, 3)] * 2
    for process in both:
        process.join()
    (cached,) = (tmp_path / "cache" / "images").glob("*/*")
    assert cached.read_bytes() == label_studio.files["/a.png"]


def test_using_an_image_keeps_it_in_the_cache(label_studio: Server, tmp_path: Path) -> None:
    label_studio.files |= {"/a.png": png(20, 10), "/b.png": png(20, 10)}
    loader = images(label_studio, tmp_path)
    for age, name in enumerate(("/b.png", "/a.png")):
        loader.load(name, 7)
        newest = max(loader.folder.glob("*/*"), key=lambda p: p.stat().st_mtime)
        os.utime(newest, (1000 - age, 1000 - age))
    loader.load("/a.png", 7)
    trim_cache(loader.folder, len(label_studio.files["/a.png"]))
    label_studio.seen.clear()
    loader.load("/a.png", 7)
    assert label_studio.seen == []


def test_the_cache_keeps_to_its_limit_while_it_fills(label_studio: Server, tmp_path: Path) -> None:
    label_studio.files |= {f"/{number}.png": png(20, 10) for number in range(60)}
    size = len(label_studio.files["/0.png"])
    loader = images(label_studio, tmp_path, image_cache_gb=20 * size / 1e9)
    for number in range(60):
        loader.load(f"/{number}.png", number)
        assert len(list(loader.folder.glob("*/*"))) <= 21
    assert len(list(loader.folder.glob("*/*"))) >= 19


def test_a_grey_image_of_16_bits_is_read_as_browsers_show_it(label_studio: Server, tmp_path: Path) -> None:
    content = io.BytesIO()
    Image.fromarray(np.full((10, 20), 0x80FF, np.uint16)).save(content, "PNG")
    label_studio.files["/a.png"] = content.getvalue()
    assert (images(label_studio, tmp_path).load("/a.png", 7) == 0x80).all()


def embedded(content: bytes, head: str = "data:image/png;base64,") -> str:
    return head + base64.b64encode(content).decode()


def test_an_embedded_image_is_decoded_within_the_limits_and_not_cached(label_studio: Server, tmp_path: Path) -> None:
    loader = images(label_studio, tmp_path)
    for uri in (embedded(png(20, 10)), embedded(png(20, 10), "DATA:image/png;charset=utf-8;BASE64,")):
        assert loader.load(uri, 7).shape == (10, 20, 3)
    assert loader.load("data:image/png," + quote(png(20, 10)), 7).shape == (10, 20, 3)
    assert loader.fetch(embedded(b"x"), 7) == b"x"
    assert label_studio.seen == [] and not loader.folder.exists()
    for limit, message in (({"max_image_mb": 0.0001}, "MAX_IMAGE_MB"), ({"max_image_megapixels": 1e-5}, "MEGAPIXELS")):
        with pytest.raises(BadImage, match=f"the image of task 7 .*{message}"):
            images(label_studio, tmp_path, **limit).load(embedded(png(20, 10)), 7)


@pytest.mark.parametrize(
    "uri", ["data:image/png;base64,iVBOR", "data:image/png;base64", "data:,", "data:text/html,<p>"]
)
def test_an_embedded_image_that_is_none_is_named(label_studio: Server, tmp_path: Path, uri: str) -> None:
    with pytest.raises(BadImage, match="task 7"):
        images(label_studio, tmp_path).load(uri, 7)


def test_what_is_no_address_is_shown_in_part(label_studio: Server, tmp_path: Path) -> None:
    with pytest.raises(BadImage, match=r"task 7 holds no image address, got \['/a.png', ") as caught:
        images(label_studio, tmp_path).load(["/a.png"] * 1000, 7)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 200


def test_own_images_by_a_public_name_are_fetched_with_the_key_where_the_server_is_reached(servers, tmp_path) -> None:
    label_studio, other = servers
    label_studio.files["/data/upload/1/a.png"] = png(20, 10)
    client = LabelStudio(label_studio.url, "the-key", public_url="https://studio.example/ls")
    loader = Images(client, Settings(data_dir=tmp_path), project_id=3)
    for number, uri in enumerate(("https://studio.example/ls/data/upload/1/a.png", "/ls/data/upload/1/a.png")):
        assert loader.load(uri, 7).shape == (10, 20, 3)
        assert label_studio.seen[number:] == [("/data/upload/1/a.png", "Token the-key")]
    label_studio.redirects["/data/upload/1/b.png"] = "https://studio.example/ls/data/upload/1/a.png"
    assert loader.load("/ls/data/upload/1/b.png", 7).shape == (10, 20, 3)
    other.closed.add("/x/data/upload/1/a.png")
    unknown = images(label_studio, tmp_path, allowed_private_hosts=("127.0.0.1",))
    with pytest.raises(BadImage, match=rf"answered 401 .*is Label Studio, set LABEL_STUDIO_PUBLIC_URL={other.url}/x$"):
        unknown.load(f"{other.url}/x/data/upload/1/a.png", 7)
    assert {authorization for _, authorization in other.seen} == {None}
