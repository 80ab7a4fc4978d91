"""Which hosts images may come from: public ones, and private ones that are listed."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

import httpx

from backend.errors import BadImage
from backend.settings import proxy_for

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def pinned(request: httpx.Request, allowed: Sequence[str], task_id: int) -> list[httpx.Request]:
    """The same request to each of the host's addresses, which were checked: no second look-up can lead elsewhere.

    `allowed` holds host names, addresses and networks (10.1.0.0/16) that may be private. Raises BadImage.
    A proxy is asked by the name, which it looks up itself: also one that is not known here.
    """
    url = request.url
    if url.scheme not in ("http", "https"):
        raise BadImage(f"the image of task {task_id} has a {url.scheme}: address; http(s) was wanted")
    is_by_proxy = proxy_for(str(url)) is not None
    addresses = _resolve(url, task_id, may_be_unknown=is_by_proxy)
    if url.host.lower() not in {entry.lower() for entry in allowed}:
        networks = [network for entry in allowed if (network := _network(entry)) is not None]
        plain = [_plain(address) for address in addresses]
        private = [a for a in plain if not a.is_global and not any(a in network for network in networks)]
        if private:
            raise BadImage(
                f"the image of task {task_id} lies on the private host {url.host}; "
                "add it to ALLOWED_PRIVATE_HOSTS if that is meant"
            )
    if is_by_proxy:
        return [request]
    headers = httpx.Headers(request.headers)
    headers["Host"] = url.netloc.decode()
    extensions = {**request.extensions, "sni_hostname": url.host}
    places = [url.copy_with(host=str(address)) for address in addresses]
    return [httpx.Request(request.method, place, headers=headers, extensions=extensions) for place in places]


def _resolve(url: httpx.URL, task_id: int, *, may_be_unknown: bool) -> list[Address]:
    try:
        found = socket.getaddrinfo(
            url.host, url.port or (443 if url.scheme == "https" else 80), type=socket.SOCK_STREAM
        )
    except (OSError, UnicodeError) as err:
        if may_be_unknown:
            return []
        raise BadImage(
            f"the host {url.host} of task {task_id}'s image is not known; check the address, or set HTTP_PROXY and "
            "HTTPS_PROXY if a proxy knows it"
        ) from err
    return [ipaddress.ip_address(info[4][0]) for info in found]


def _plain(address: Address) -> Address:
    """An IPv4 address that is written as IPv6 (mapped, 6to4, NAT64) as what it stands for."""
    if not isinstance(address, ipaddress.IPv6Address):
        return address
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return None
