from __future__ import annotations

import datetime
import socket
import ssl
from pathlib import Path

import httpx
import pytest

from backend.errors import BadImage
from backend.label_studio import hosts
from backend.label_studio.client import LabelStudio
from backend.label_studio.images import Images
from backend.settings import Settings
from tests.backend.image_servers import Server, images, png


def at_loopback(host: str, port: int, *args: object, **options: object) -> list:
    """A resolver that finds every name on this machine."""
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


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


def unknown(host: str, port: int, *args: object, **options: object) -> list:
    """A resolver without a public DNS."""
    if host == "127.0.0.1":
        return at_loopback(host, port)
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def test_a_proxy_looks_up_the_names_that_are_not_known_here(servers, tmp_path: Path, monkeypatch) -> None:
    label_studio, proxy = servers
    label_studio.files["/a.png"] = png(30, 20)
    proxy.files["http://images.example/a.png"] = png(20, 10)
    proxy.redirects["http://images.example/b.png"] = "http://127.0.0.1:1/a.png"
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setattr(hosts.socket, "getaddrinfo", unknown)
    loader = images(label_studio, tmp_path)
    assert loader.load("http://images.example/a.png", 7).shape == (10, 20, 3)
    with pytest.raises(BadImage, match=r"private host 127\.0\.0\.1"):
        loader.load("http://images.example/b.png", 7)
    assert loader.load("/a.png", 7).shape == (20, 30, 3), "Label Studio is asked without it"
    assert [path for path, _ in proxy.seen] == ["http://images.example/a.png", "http://images.example/b.png"]
    with pytest.raises(BadImage, match=r"answered 404 .*task 7; .*it was asked through the proxy http://127"):
        loader.load("http://images.example/gone.png", 7)
    monkeypatch.delenv("HTTP_PROXY")
    with pytest.raises(BadImage, match=r"the host images\.example of task 7's image is not known; .*HTTP_PROXY"):
        loader.load("http://images.example/c.png", 7)


def test_a_name_that_is_private_here_is_not_asked_of_a_proxy(servers, tmp_path: Path, monkeypatch) -> None:
    label_studio, proxy = servers
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setattr(hosts.socket, "getaddrinfo", at_loopback)
    with pytest.raises(BadImage, match=r"private host nas\.example"):
        images(label_studio, tmp_path).load("http://nas.example/a.png", 7)
    assert proxy.seen == []
