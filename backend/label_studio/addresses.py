"""Addresses in tasks: which are Label Studio's own, by either of its names, and where each is fetched."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import httpx

from backend.errors import BadImage

SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)
CLOUD = ("s3", "gs", "azure-blob")
"""Schemes of storages that Label Studio resolves."""

OWN_PATHS = re.compile(r"/(data|tasks|static|storage-data|samples)/")
"""Where Label Studio serves images below its own address."""

DEFAULT_PORTS = {"http": 80, "https": 443}


def image_address(root: str, image: str) -> str:
    """The address of the image with that name below a root, which may lack the slash at its end.

    Names are quoted, but not those in cloud storage: there Label Studio asks for the name as it stands.
    """
    base = root if root.endswith(("/", "=")) else f"{root}/"
    return base + (image if base.partition("://")[0].lower() in CLOUD else quote(image))


@dataclass(frozen=True)
class Addresses:
    """The two names of one Label Studio, each maybe with a path that a proxy takes away.

    reached   as this machine reaches it, without a slash at the end
    public    as its users' browsers and its tasks call it; empty if nobody told
    """

    reached: str
    public: str = ""

    def of_image(self, uri: str, task_id: int) -> str:
        """Where an image is: own files and cloud URIs at the server as it is reached; BadImage for other schemes."""
        scheme = match[1].lower() if (match := SCHEME.match(uri)) else ""
        if scheme in ("http", "https"):
            return self.own(uri) or uri
        if scheme in CLOUD:
            encoded = base64.urlsafe_b64encode(uri.encode()).decode()
            return f"{self.reached}/tasks/{task_id}/resolve/?fileuri={encoded}"
        if scheme:
            raise BadImage(
                f"the image of task {task_id} has a {scheme}: address; http:, https:, data:, uploads, local files and "
                f"cloud storage ({', '.join(f'{name}:' for name in CLOUD)}) can be read"
            )
        return self._of_path(f"/{uri.lstrip('/')}")

    def own(self, url: str) -> str | None:
        """An address of Label Studio's own, by either name, as it is reached; None for any other."""
        prefix = _path(self.public)
        if self.public and (rest := _below(url, self.public)) is not None:
            return self.reached + rest
        if (rest := _below(url, self.reached)) is not None:
            return self.reached + (rest.removeprefix(prefix) if rest.startswith(f"{prefix}/") else rest)
        return None

    def in_task(self, path: str) -> str:
        """A path of the server's own as it stands in a task's data: browsers begin it at the host."""
        return _path(self.public) + path

    def _of_path(self, path: str) -> str:
        """A path that begins at the host, as browsers take it; without the prefix where a task lacks it."""
        prefixes = [prefix for prefix in (_path(self.public), _path(self.reached)) if prefix]
        for prefix in prefixes:
            if path.startswith(f"{prefix}/"):
                return self.reached + path.removeprefix(prefix)
        if prefixes and not OWN_PATHS.match(path):
            base = self.public or self.reached
            return base.removesuffix(_path(base)) + path
        return self.reached + path


def _below(url: str, base: str) -> str | None:
    """What follows a base in an address, None if it lies elsewhere; on their usual ports http and https are one."""
    try:
        whole, own = httpx.URL(url), httpx.URL(base)
        same = (whole.host, _port(whole)) == (own.host, _port(own))
    except (httpx.InvalidURL, ValueError):  # the second where a host's name is decoded
        return None
    rest, prefix = whole.raw_path.decode(), _path(base)
    if not same or not rest.startswith(f"{prefix}/") or ".." in re.split(r"[/\\]", whole.path):
        return None  # encoded dots pass here and would lead a proxy out of the path again
    return rest.removeprefix(prefix)


def _port(url: httpx.URL) -> int | None:
    """A port other than the scheme's usual one."""
    return None if url.port == DEFAULT_PORTS.get(url.scheme) else url.port


def _path(base: str) -> str:
    return urlsplit(base).path.rstrip("/")
