"""Servers of images that would fill the memory, hold a worker, or write to a terminal."""

from __future__ import annotations

import gzip
import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from backend.errors import BadImage
from backend.label_studio import images as images_module
from backend.label_studio.client import LabelStudio
from backend.label_studio.images import Images
from backend.settings import Settings
from tests.backend.image_servers import Server, images, png


def drip(connection: socket.socket, stopped: threading.Event) -> None:
    while not stopped.wait(0.02):
        connection.sendall(b"x")


def pour(connection: socket.socket, stopped: threading.Event) -> None:
    while not stopped.is_set():
        connection.sendall(b"x" * 100_000)


@pytest.mark.parametrize("is_label_studio", [False, True], ids=["elsewhere", "Label Studio"])
@pytest.mark.parametrize(
    ("go_on", "message"),
    [(drip, "the image of task 7 did not arrive within 0.3 s"), (pour, "the image of task 7 is larger than 1 MB")],
)
def test_a_server_that_never_ends_does_not_hold_a_worker(
    label_studio: Server, answering, tmp_path: Path, monkeypatch, go_on, message: str, is_label_studio: bool
) -> None:
    monkeypatch.setattr(images_module, "FETCH_TIMEOUT_S", 0.3)
    url = answering(b"HTTP/1.1 200 OK\r\n\r\n", go_on)
    settings = Settings(data_dir=tmp_path, allowed_private_hosts=("127.0.0.1",), max_image_mb=1)
    loader = Images(LabelStudio(url if is_label_studio else label_studio.url, "the-key"), settings)
    with pytest.raises(BadImage, match=message):
        loader.load(f"{url}/a.png", 7)


def unpack_to_nothing(connection: socket.socket, stopped: threading.Event) -> None:
    connection.sendall(gzip.compress(b"")[:10])
    while not stopped.wait(0.02):
        connection.sendall(b"\0\0\0\xff\xff")


@pytest.mark.parametrize(
    ("begin", "go_on"),
    [(b"HTTP/1.1 200 OK\r\nX-", drip), (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", unpack_to_nothing)],
    ids=["no answer", "nothing in it"],
)
def test_a_server_that_never_comes_to_the_image_does_not_hold_a_worker(
    label_studio: Server, answering, tmp_path: Path, monkeypatch, begin: bytes, go_on
) -> None:
    monkeypatch.setattr(images_module, "FETCH_TIMEOUT_S", 0.3)
    loader = images(label_studio, tmp_path, allowed_private_hosts=("127.0.0.1",))
    with pytest.raises(BadImage, match=r"the image of task 7 did not arrive within 0\.3 s"):
        loader.load(f"{answering(begin, go_on)}/a.png", 7)


def test_an_endless_refusal_is_not_read_before_the_login_is_shown(
    label_studio: Server, answering, tmp_path: Path, monkeypatch
) -> None:
    def pour_until_closed(connection: socket.socket, stopped: threading.Event) -> None:
        with suppress(OSError):
            pour(connection, stopped)

    monkeypatch.setattr(images_module, "FETCH_TIMEOUT_S", 5.0)
    url = answering(b"HTTP/1.1 401 Unauthorized\r\n\r\n", pour_until_closed)
    settings = Settings(data_dir=tmp_path, allowed_private_hosts=("127.0.0.1",))
    loader = Images(LabelStudio(label_studio.url, "the-key"), settings, ("user", "word"))
    with pytest.raises(BadImage, match="answered 401 for the image of task 7"):
        loader.load(f"{url}/a.png", 7)


@pytest.mark.parametrize("packing", ["gzip, gzip", "gzip\r\nContent-Encoding: deflate", "br", "zstd"])
def test_an_answer_that_may_unpack_to_gigabytes_is_not_unpacked(
    label_studio: Server, answering, tmp_path: Path, packing: str
) -> None:
    bomb = gzip.compress(gzip.compress(bytes(2_000_000)))
    url = answering(f"HTTP/1.1 200 OK\r\nContent-Encoding: {packing}\r\n\r\n".encode() + bomb)
    loader = images(label_studio, tmp_path, allowed_private_hosts=("127.0.0.1",), max_image_mb=1)
    with pytest.raises(BadImage, match=r"the image of task 7 comes packed as '.*'; have its server send it as it is"):
        loader.load(f"{url}/a.png", 7)


def test_an_image_that_is_packed_once_is_read(label_studio: Server, answering, tmp_path: Path) -> None:
    url = answering(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(png(20, 10)))
    loader = images(label_studio, tmp_path, allowed_private_hosts=("127.0.0.1",))
    assert loader.load(f"{url}/a.png", 7).shape == (10, 20, 3)


def test_an_address_cannot_write_to_the_terminal_that_shows_why_it_is_refused(
    label_studio: Server, tmp_path: Path
) -> None:
    with pytest.raises(BadImage, match="LABEL_STUDIO_PUBLIC_URL=http://10") as refused:
        images(label_studio, tmp_path).load("http://10.0.0.1/%1b[2J%0amaskal: all is well/data/upload/1/a.png", 7)
    assert str(refused.value).isprintable()
