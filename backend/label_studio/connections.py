"""Connections to other servers: by which certificates, through which proxy, and in words why there is none."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx

from backend.errors import BadSetting
from backend.settings import certificates, proxy_for

WRONG_NAME = (62, 64)
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""


def open_http(url: str, **options: Any) -> httpx.Client:
    """What calls the server of an address; it follows no redirect. BadSetting if the environment does not let it.

    The proxy is chosen here, once and by the server's name, and not by httpx for each call.
    """
    proxy = proxy_for(url)
    try:
        transport = httpx.HTTPTransport(verify=_trusted(), proxy=proxy)
    except OSError as err:
        raise BadSetting(
            f"the certificates that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read ({err}); correct or unset it"
        ) from err
    except (ImportError, ValueError, httpx.InvalidURL) as err:
        raise BadSetting(
            f"the proxy {_shown(str(proxy))} of HTTP_PROXY, HTTPS_PROXY or ALL_PROXY cannot be used ({err}); give one "
            f"with http://, or list {httpx.URL(url).host} in NO_PROXY"
        ) from err
    return httpx.Client(transport=transport, follow_redirects=False, **options)


def _trusted() -> ssl.SSLContext:
    """Whose certificates are taken, shared by all connections: to read them takes longer than most calls do."""
    file, folder = certificates()
    return _read(file, folder, Path(file).stat().st_mtime_ns if file else 0)


@lru_cache(maxsize=1)
def _read(file: str | None, folder: str | None, changed_ns: int) -> ssl.SSLContext:
    """The certificates, read anew where the environment, which httpx asks itself, names others or they were changed."""
    return httpx.create_ssl_context()


def why(err: httpx.RequestError, url: str) -> str:
    """Why a server gave no answer, and what to do: certificate, proxy, name, port and time told apart."""
    return f"{_reason(err, through_proxy=proxy_for(url) is not None)}{by_proxy(url)}"


def by_proxy(url: str) -> str:
    """That an address is asked through a proxy, to be said where something fails; empty if it is not."""
    proxy = proxy_for(url)
    if proxy is None:
        return ""
    return (
        f"; it was asked through the proxy {_shown(proxy)} of HTTP_PROXY, HTTPS_PROXY or ALL_PROXY: list "
        f"{httpx.URL(url).host} in NO_PROXY if it is on your own network"
    )


def _reason(err: httpx.RequestError, *, through_proxy: bool) -> str:
    for cause in _causes(err):
        if isinstance(cause, ssl.SSLCertVerificationError):
            if cause.verify_code in WRONG_NAME:
                return f"its certificate is for another name ({cause.verify_message}); use the name that it is for"
            return (
                f"its certificate is not trusted ({cause.verify_message}); set SSL_CERT_FILE to a file with the "
                "certificate of your authority, and of the public ones if their servers are needed, too"
            )
        if isinstance(cause, ssl.SSLError):
            return f"it speaks no TLS there ({cause.reason or cause}); check the port, or write http:// for https://"
        if isinstance(cause, socket.gaierror):
            return f"the name of the {'proxy' if through_proxy else 'host'} is not known here; check it"
        if isinstance(cause, ConnectionRefusedError):
            return f"nothing listens {'at the proxy' if through_proxy else 'there'}; check that it runs, and the port"
    if isinstance(err, httpx.ProxyError):
        return f"the proxy refuses ({err})"
    if isinstance(err, httpx.ConnectTimeout):
        return "the connection is not taken in time; check that it runs, its address and the firewall"
    if isinstance(err, httpx.TimeoutException):
        return "it does not answer in time; check that it runs and is not overloaded"
    if isinstance(err, httpx.RemoteProtocolError):
        return f"it broke off or speaks no HTTP there ({err}); check the port, or write https:// for http://"
    return f"{type(err).__name__}; check that it runs and its address"


def _causes(err: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was made of, down to the system's own."""
    while err is not None:
        yield err
        err = err.__cause__ or err.__context__


def _shown(proxy: str) -> str:
    """A proxy's address without its password."""
    return re.sub(r"//.*@", "//", proxy)
