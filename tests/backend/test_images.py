from __future__ import annotations

import datetime
import io
import multiprocessing
import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image, ImageOps

from backend import hosts
from backend import images as images_module
from backend.client import LabelStudio
from backend.errors import BadImage, LabelStudioBusy, WrongToken
from backend.images import Images, trim_cache
from backend.settings import Settings


def png(width: int, height: int, **options: object) -> bytes:
    content = io.BytesIO()
    Image.effect_noise((width, height), 60).convert("RGB").save(content, "PNG", **options)
    return content.getvalue()


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.together: dict[str, threading.Barrier] = {}
        self.closed: set[str] = set()
        self.failures: dict[str, int] = {}
        self.seen: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers.get("Authorization")))
        if self.path in self.server.together:
            self.server.together[self.path].wait(60)
        if self.path in self.server.redirects:
            self.send_response(302)
            self.send_header("Location", self.server.redirects[self.path])
            self.end_headers()
            return
        if self.server.failures.get(self.path, 0) > 0:
            self.server.failures[self.path] -= 1
            self.send_response(503)
            self.end_headers()
            return
        if self.path in self.server.closed and self.headers.get("Authorization") in (None, "Token revoked"):
            self.send_response(401)
            self.end_headers()
            return
        content = self.server.files.get(self.path)
        self.send_response(404 if content is None else 200)
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def servers() -> Iterator[tuple[Server, Server]]:
    pair = Server(), Server()
    for server in pair:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield pair
    for server in pair:
        server.shutdown()
        server.server_close()


@pytest.fixture
def label_studio(servers: tuple[Server, Server]) -> Server:
    return servers[0]


@pytest.fixture
def answering() -> Iterator[Callable[..., str]]:
    """Start servers that answer any request with those bytes, and then go on as told; returns their addresses."""
    stopped, listeners = threading.Event(), []

    def start(answer: bytes, go_on: Callable[[socket.socket, threading.Event], object] | None = None) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def serve() -> None:
            try:
                while True:
                    connection = listener.accept()[0]
                    with connection:
                        connection.recv(4096)
                        connection.sendall(answer)
                        if go_on is not None:
                            go_on(connection, stopped)
            except OSError:
                pass  # the client or the test is done

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    stopped.set()
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def images(label_studio: Server, folder: Path, **settings: object) -> Images:
    return Images(LabelStudio(label_studio.url, "the-key"), Settings(data_dir=folder, **settings))


def test_an_image_is_fetched_once_with_the_key_and_then_cached(label_studio: Server, tmp_path: Path) -> None:
    label_studio.files["/data/upload/1/a.png"] = png(40, 30)
    loader = images(label_studio, tmp_path)
    first, second = loader.load("/data/upload/1/a.png", 7), loader.load("/data/upload/1/a.png", 7)
    assert first.shape == (30, 40, 3) and first.dtype == np.uint8 and (first == second).all()
    assert label_studio.seen == [("/data/upload/1/a.png", "Token the-key")]


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


def test_a_private_host_is_refused_unless_listed_and_never_sees_the_key(servers, tmp_path: Path) -> None:
    label_studio, other = servers
    other.files["/a.png"] = png(20, 10)
    with pytest.raises(BadImage, match=r"private host 127\.0\.0\.1; add it to ALLOWED_PRIVATE_HOSTS"):
        images(label_studio, tmp_path).load(f"{other.url}/a.png", 7)
    listed = images(label_studio, tmp_path, allowed_private_hosts=("127.0.0.1",))
    assert listed.load(f"{other.url}/a.png", 7).shape == (10, 20, 3)
    assert other.seen == [("/a.png", None)]


def test_a_redirect_to_a_private_host_is_refused_and_a_loop_ends(servers, tmp_path: Path) -> None:
    label_studio, other = servers
    label_studio.redirects["/a.png"] = f"{other.url}/a.png"
    label_studio.redirects["/loop.png"] = "/loop.png"
    loader = images(label_studio, tmp_path)
    with pytest.raises(BadImage, match="private host"):
        loader.load("/a.png", 7)
    assert other.seen == []
    with pytest.raises(BadImage, match="redirected more than 5 times"):
        loader.load("/loop.png", 7)


def test_a_redirect_to_another_host_does_not_carry_the_key(servers, tmp_path: Path) -> None:
    label_studio, other = servers
    label_studio.redirects["/a.png"] = f"{other.url}/a.png?signed=1"
    other.files["/a.png?signed=1"] = png(20, 10)
    loader = images(label_studio, tmp_path, allowed_private_hosts=("127.0.0.1",))
    assert loader.load("/a.png", 7).shape == (10, 20, 3)
    assert label_studio.seen == [("/a.png", "Token the-key")] and other.seen == [("/a.png?signed=1", None)]


def at_loopback(host: str, port: int, *args: object, **options: object) -> list:
    """A resolver that finds every name on this machine."""
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


def test_a_name_is_resolved_once_and_then_connected_to(servers, tmp_path: Path, monkeypatch) -> None:
    """A host that is public at the check and private at the connection (DNS rebinding) finds no second look-up."""
    label_studio, other = servers
    other.files["/a.png"] = png(20, 10)
    looked_up: list[str] = []

    def resolve(host: str, port: int, *args: object, **options: object) -> list:
        looked_up.append(host)
        return at_loopback(host, port)

    monkeypatch.setattr(hosts.socket, "getaddrinfo", resolve)
    url = other.url.replace("127.0.0.1", "images.example")
    listed = images(label_studio, tmp_path, allowed_private_hosts=("Images.Example",))
    assert listed.load(f"{url}/a.png", 7).shape == (10, 20, 3)
    assert [host for host in looked_up if host == "images.example"] == ["images.example"]
    with pytest.raises(BadImage, match=r"private host images\.example"):
        images(label_studio, tmp_path / "b").load(f"{url}/a.png", 7)


def test_a_host_whose_first_address_is_dead_is_reached_at_the_next(servers, tmp_path: Path, monkeypatch) -> None:
    """Such as localhost, which is ::1 first, where a server listens on 127.0.0.1 alone."""
    label_studio, other = servers
    other.files["/a.png"] = png(20, 10)

    def resolve(host: str, port: int, *args: object, **options: object) -> list:
        dead = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", port))
        return [dead, *at_loopback(host, port)] if host == "images.example" else real(host, port, *args, **options)

    real = socket.getaddrinfo
    monkeypatch.setattr(hosts.socket, "getaddrinfo", resolve)
    url = other.url.replace("127.0.0.1", "images.example")
    loader = images(label_studio, tmp_path, allowed_private_hosts=("images.example",))
    assert loader.load(f"{url}/a.png", 7).shape == (10, 20, 3)


@pytest.mark.parametrize(
    "host",
    ["[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::10.0.0.1]", "[2002:a00:1::]", "169.254.169.254", "10.0.0.1", "0.0.0.0"],
)
def test_private_addresses_of_all_kinds_are_refused(label_studio: Server, tmp_path: Path, host: str) -> None:
    with pytest.raises(BadImage, match="private host"):
        images(label_studio, tmp_path).load(f"http://{host}:9/a.png", 7)


def test_a_listed_network_is_allowed(servers, tmp_path: Path) -> None:
    label_studio, other = servers
    other.files["/a.png"] = png(20, 10)
    loader = images(label_studio, tmp_path, allowed_private_hosts=("10.0.0.0/8", "127.0.0.9/24"))
    assert loader.load(f"{other.url}/a.png", 7).shape == (10, 20, 3)


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


def test_the_project_s_login_is_shown_only_to_the_host_that_asks_for_it(servers, tmp_path: Path) -> None:
    label_studio, other = servers
    other.files |= {"/open.png": png(20, 10), "/closed.png": png(20, 10)}
    other.closed.add("/closed.png")
    settings = Settings(data_dir=tmp_path, allowed_private_hosts=("127.0.0.1",))
    loader = Images(LabelStudio(label_studio.url, "the-key"), settings, ("user", "word"))
    loader.load(f"{other.url}/open.png", 7)
    loader.load(f"{other.url}/closed.png", 7)
    basic = httpx.BasicAuth("user", "word")._auth_header
    assert other.seen == [("/open.png", None), ("/closed.png", None), ("/closed.png", basic)]
    with pytest.raises(BadImage, match="answered 401"):
        images(label_studio, tmp_path / "b", allowed_private_hosts=("127.0.0.1",)).load(f"{other.url}/closed.png", 7)


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


def self_signed(host: str, folder: Path) -> tuple[Path, Path]:
    """A certificate for a host, and its key."""
    x509 = pytest.importorskip("cryptography.x509", reason="cryptography makes the certificate")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.datetime.now(datetime.timezone.utc)
    names = x509.SubjectAlternativeName([x509.DNSName(host)])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(1))
    builder = builder.add_extension(names, critical=True)
    certificate, private = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    private.write_bytes(key.private_bytes(*form))
    return certificate, private


def test_the_certificate_is_checked_against_the_name_not_the_address(servers, tmp_path: Path, monkeypatch) -> None:
    label_studio, other = servers
    other.files["/a.png"] = png(20, 10)
    certificate, private = self_signed("images.example", tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, private)
    other.socket = context.wrap_socket(other.socket, server_side=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setattr(hosts.socket, "getaddrinfo", at_loopback)
    port = other.server_address[1]
    loader = images(label_studio, tmp_path, allowed_private_hosts=("images.example", "other.example"))
    assert loader.load(f"https://images.example:{port}/a.png", 7).shape == (10, 20, 3)
    with pytest.raises(BadImage, match=r"other\.example gave no answer for the image of task 7"):
        loader.load(f"https://other.example:{port}/a.png", 7)


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


def test_a_grey_image_of_16_bits_is_read_as_browsers_show_it(label_studio: Server, tmp_path: Path) -> None:
    content = io.BytesIO()
    Image.fromarray(np.full((10, 20), 0x80FF, np.uint16)).save(content, "PNG")
    label_studio.files["/a.png"] = content.getvalue()
    assert (images(label_studio, tmp_path).load("/a.png", 7) == 0x80).all()


def test_the_cache_is_trimmed_oldest_first(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "old", "oldest")):
        (tmp_path / "aa").mkdir(exist_ok=True)
        path = tmp_path / "aa" / name
        path.write_bytes(b"x" * 100)
        os.utime(path, (1000 - age, 1000 - age))
    assert trim_cache(tmp_path, 150) == 2
    assert [p.name for p in (tmp_path / "aa").iterdir()] == ["new"]


def test_a_file_that_another_process_removes_does_not_stop_the_trimming(tmp_path: Path) -> None:
    (tmp_path / "aa").mkdir()
    (tmp_path / "aa" / "gone").symlink_to("nowhere")  # listed, but without a size
    (tmp_path / "aa" / "there").write_bytes(b"x" * 100)
    assert trim_cache(tmp_path, 0) == 1
