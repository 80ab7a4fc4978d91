"""Which hosts images may come from: public ones, and private ones that are listed."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

import httpx

from backend.errors import BadImage

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def pinned(request: httpx.Request, allowed: Sequence[str], task_id: int) -> httpx.Request:
    """The same request, sent to the very address that was checked, so that a second look-up cannot lead elsewhere.

    `allowed` holds host names, addresses and networks (10.1.0.0/16) that may be private. Raises BadImage.
    """
    url = request.url
    if url.scheme not in ("http", "https"):
        raise BadImage(f"the image of task {task_id} has a {url.scheme}: address; http(s) was wanted")
    addresses = _resolve(url, task_id)
    if url.host.lower() not in {entry.lower() for entry in allowed}:
        networks = [network for entry in allowed if (network := _network(entry)) is not None]
        private = [a for a in addresses if not _is_public(a) and not any(a in network for network in networks)]
        if private:
            raise BadImage(
                f"the image of task {task_id} lies on the private host {url.host}; "
                "add it to ALLOWED_PRIVATE_HOSTS if that is meant"
            )
    headers = httpx.Headers(request.headers)
    headers["Host"] = url.netloc.decode()
    extensions = {**request.extensions, "sni_hostname": url.host}
    return httpx.Request(request.method, url.copy_with(host=str(addresses[0])), headers=headers, extensions=extensions)


def _resolve(url: httpx.URL, task_id: int) -> list[Address]:
    try:
        found = socket.getaddrinfo(
            url.host, url.port or (443 if url.scheme == "https" else 80), type=socket.SOCK_STREAM
        )
    except (OSError, UnicodeError) as err:
        raise BadImage(f"the host {url.host} of task {task_id}'s image is not known; check the address") from err
    return [ipaddress.ip_address(info[4][0]) for info in found]


def _is_public(address: Address) -> bool:
    """Whether an address is reachable for everybody; an IPv4 address written as IPv6 is what it stands for."""
    inner = address.ipv4_mapped or address.sixtofour if isinstance(address, ipaddress.IPv6Address) else None
    return (inner or address).is_global


def _network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(entry)
    except ValueError:
        return None
