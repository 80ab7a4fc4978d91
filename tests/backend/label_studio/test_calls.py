"""What is said where Label Studio gives no answer, or something else answers in its place."""

from __future__ import annotations

import re
import socket
import ssl
from pathlib import Path

import pytest

from backend.errors import BadSetting, LabelStudioBusy, LabelStudioError, WrongToken
from backend.label_studio.client import LabelStudio
from tests.backend.image_servers import Server
from tests.backend.label_studio.test_hosts import self_signed

PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in &amp; go on</title></head><body><a href='x'>here</a></body></html>"


def answer(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (
            answer("200 OK", PAGE),
            LabelStudioError,
            "is no Label Studio, but a web page titled 'Sign in & go on'; check",
        ),
        (answer("200 OK", b"pong"), LabelStudioError, "is no Label Studio, but pong; check the address"),
        (answer("401 No", PAGE), WrongToken, "with 401 (a web page titled 'Sign in & go on'); check the API key"),
        (answer("400 Bad", PAGE), LabelStudioError, "answered 400 to GET /api/x: a web page titled"),
        (
            answer("400 Bad", b'{"detail": "no <a href=\'x\'>way</a>\\n  &amp; out"}'),
            LabelStudioError,
            ": no way & out",
        ),
        (answer("400 Bad", b'["1 < 2 and 3 > 2"]'), LabelStudioError, "1 < 2 and 3 > 2"),
        (answer("503 Away", PAGE), LabelStudioBusy, "answered 503 to GET /api/x"),
        (
            answer("302 Found", b"", "Location: https://login.example/start?state=secret"),
            LabelStudioError,
            "leads GET /api/x on to https://login.example/start (302); give the address that answers itself",
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n", LabelStudioBusy, "speaks no HTTP there"),
    ],
)
def test_what_answers_is_told_without_html(answering, content: bytes, error: type, message: str) -> None:
    with pytest.raises(error, match=re.escape(message)) as caught:
        LabelStudio(answering(content), "key", attempts=1).request("GET", "/api/x")
    assert not re.search(r"<[a-z!/]|secret", str(caught.value))


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (answer("401 No", b'{"detail": "Token is blacklisted"}'), WrongToken, "does not accept the personal access"),
        (answer("502 Bad", PAGE), LabelStudioBusy, "answered 502 to POST /api/token/refresh/"),
        (
            answer("301 On", b"", "Location: https://h/api/token/refresh/"),
            LabelStudioError,
            "on to https://h/api/token",
        ),
        (answer("200 OK", PAGE), LabelStudioError, "is no Label Studio, but a web page"),
    ],
)
def test_only_a_refused_personal_token_is_called_refused(answering, content: bytes, error: type, message: str) -> None:
    with pytest.raises(LabelStudioError, match=re.escape(message)) as caught:
        LabelStudio(answering(content), "a.b.c", attempts=1).whoami()
    assert type(caught.value) is error


def refusal(url: str) -> str:
    with pytest.raises(LabelStudioBusy) as caught:
        LabelStudio(url, "key", attempts=1).whoami()
    return str(caught.value)


def test_a_host_name_with_an_underscore_is_named_where_it_is_refused(answering, monkeypatch) -> None:
    """As containers are called often, and Django answers each call to one with a page that tells no reason."""
    refused = answering(answer("400 Bad Request", b"<!doctype html><title>Bad Request (400)</title>"))
    told = "it takes no host name with an underscore; give the container a name or alias without one"
    with pytest.raises(LabelStudioError, match="400") as caught:
        LabelStudio(refused, "key", attempts=1).whoami()
    assert told not in str(caught.value)
    look_up = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *more, **options: look_up("127.0.0.1", *more, **options))
    with pytest.raises(LabelStudioError, match=re.escape(told)):
        LabelStudio(refused.replace("127.0.0.1", "label_studio"), "key", attempts=1).whoami()


def test_a_closed_port_an_unknown_name_and_plain_http_are_told_apart(answering) -> None:
    assert "http://127.0.0.1:9: nothing listens there; check that it runs, and the port" in refusal(
        "http://127.0.0.1:9"
    )
    assert "the name of the host is not known here" in refusal("http://no-such-host.invalid")
    spoken = answering(answer("400 Bad Request", b""))
    assert "it speaks no TLS there" in refusal(spoken.replace("http:", "https:"))


def test_an_own_certificate_authority_is_named_and_taken(label_studio: Server, tmp_path: Path, monkeypatch) -> None:
    certificate, private = self_signed("localhost", tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, private)
    label_studio.socket = context.wrap_socket(label_studio.socket, server_side=True)
    label_studio.files["/api/x"] = b"{}"
    url = f"https://localhost:{label_studio.server_address[1]}"
    assert "its certificate is not trusted (self-signed certificate); set SSL_CERT_FILE" in refusal(url)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert LabelStudio(url, "key").request("GET", "/api/x") == {}
    assert "its certificate is for another name" in refusal(url.replace("localhost", "127.0.0.1"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
    with pytest.raises(BadSetting, match=r"the certificates that SSL_CERT_FILE .* cannot be read .*; correct or"):
        LabelStudio(url, "key")


def test_a_proxy_is_named_without_its_password_and_not_asked_for_this_machine(servers, monkeypatch) -> None:
    label_studio, proxy = servers
    label_studio.files["/api/x"] = b"{}"
    monkeypatch.setenv("HTTP_PROXY", "http://user:and@secret@127.0.0.1:9")
    told = refusal("http://studio.example")
    assert "nothing listens at the proxy" in told and "secret" not in told
    assert told.endswith(
        "asked through the proxy http://127.0.0.1:9 of HTTP_PROXY, HTTPS_PROXY or ALL_PROXY: list studio.example in "
        "NO_PROXY if it is on your own network"
    )
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    proxy.failures["http://studio.example/api/current-user/whoami"] = 1
    assert f"answered 503 to GET /api/current-user/whoami; it was asked through the proxy {proxy.url}" in refusal(
        "http://studio.example"
    )
    assert LabelStudio(label_studio.url, "key").request("GET", "/api/x") == {}
    assert len(proxy.seen) == 1


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "smoke://127.0.0.1:9", "http://127.0.0.1:port"])
def test_a_proxy_that_cannot_be_used_is_named(monkeypatch, proxy: str) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(BadSetting, match=rf"the proxy {proxy} of HTTP_PROXY.* cannot be used .*NO_PROXY"):
        LabelStudio("http://studio.example", "key")


@pytest.mark.parametrize(
    ("content", "public"),
    [
        (
            b'{"sample_task": {"example": "https://host/label-studio/static/samples/sample.jpg"}}',
            "https://host/label-studio",
        ),
        (b'{"sample_task": {"example": "/static/samples/sample.jpg"}}', ""),
        (b'{"sample_task": {"example": "https://elsewhere.org/cat.jpg"}}', ""),
        (b"[]", ""),
    ],
)
def test_the_public_address_is_what_stands_before_the_server_s_own_examples(answering, content, public: str) -> None:
    assert LabelStudio(answering(answer("200 OK", content)), "key").addresses(3).public == public


def test_a_server_that_does_not_tell_its_public_address_is_asked_once(answering, caplog) -> None:
    client = LabelStudio(answering(answer("404 Not Found", b"")), "key")
    assert [client.addresses(3).public for _ in range(2)] == ["", ""]
    assert caplog.text.count("set LABEL_STUDIO_PUBLIC_URL if it has one") == 1
    told = LabelStudio("http://127.0.0.1:9", "key", public_url="https://host")
    assert told.addresses(3).public == "https://host", "nobody asks"
