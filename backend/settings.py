"""Settings of a process, read from the environment: the only place that does so."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from backend.errors import BadSetting

DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"
LOG_FORMATS = ("text", "json")


@dataclass(frozen=True)
class Settings:
    """Where things are and how large they may be.

    data_dir            versions, rounds, secrets and the image cache (DATA_DIR)
    redis_url           the queue; None: DEFAULT_REDIS_URL, and `maskal demo` starts its own (REDIS_URL)
    host, port          where `maskal serve` listens (HOST, PORT)
    backend_url         this backend as Label Studio reaches it (BACKEND_URL)
    label_studio_url, label_studio_api_key   win over what `maskal connect` stored (LABEL_STUDIO_URL, ..._API_KEY)
    label_studio_public_url   Label Studio as its users' browsers and its tasks call it, likewise; None: what Label
                        Studio says itself (LABEL_STUDIO_PUBLIC_URL)
    basic_password, webhook_secret           likewise (MASKAL_BASIC_PASSWORD, MASKAL_WEBHOOK_SECRET)
    viewer_password     opens the pages for reading, to the user `viewer` (MASKAL_VIEWER_PASSWORD); None: to nobody
    metrics_password    opens /metrics, to the user `metrics` (MASKAL_METRICS_PASSWORD); None: to nobody but the user
                        `maskal`
    public_url          this backend's pages as browsers reach them (PUBLIC_URL); None: HOST and PORT, and no link in
                        the labelling instruction
    max_image_mb, max_image_megapixels       larger images are refused (MAX_IMAGE_MB, MAX_IMAGE_MEGAPIXELS)
    image_cache_gb      size of the image cache on disk (IMAGE_CACHE_GB)
    feature_cache_gb    size of the cache of image features on disk (FEATURE_CACHE_GB)
    task_lock_s         seconds for which Label Studio reserves a task for an annotator; so long the predictions of
                        versions that were served before are kept (TASK_LOCK_TTL, as in Label Studio's own environment)
    allowed_private_hosts  private hosts and networks (10.1.0.0/16) from which images may be fetched, comma-separated
                           (ALLOWED_PRIVATE_HOSTS)
    label_studio_executable  what `maskal demo` starts (LABEL_STUDIO_EXECUTABLE)
    """

    data_dir: Path
    redis_url: str | None = None
    host: str = "127.0.0.1"
    port: int = 9090
    backend_url: str | None = None
    label_studio_url: str | None = None
    label_studio_api_key: str | None = None
    label_studio_public_url: str | None = None
    basic_password: str | None = None
    webhook_secret: str | None = None
    viewer_password: str | None = None
    metrics_password: str | None = None
    public_url: str | None = None
    max_image_mb: float = 200.0
    max_image_megapixels: float = 100.0
    image_cache_gb: float = 20.0
    feature_cache_gb: float = 5.0
    task_lock_s: float = 24 * 3600.0
    allowed_private_hosts: tuple[str, ...] = ()
    label_studio_executable: str | None = None


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment; BadSetting names a variable whose value does not fit."""
    environ = {name: text.strip() for name, text in (os.environ if environ is None else environ).items()}
    hosts = environ.get("ALLOWED_PRIVATE_HOSTS", "")
    key = environ.get("LABEL_STUDIO_API_KEY")
    return Settings(
        data_dir=_folder(environ, "DATA_DIR", "maskal-data"),
        redis_url=environ.get("REDIS_URL") or None,
        host=_host(environ, "HOST", Settings.host),
        port=_port(environ, "PORT", Settings.port),
        backend_url=_address(environ, "BACKEND_URL"),
        label_studio_url=_address(environ, "LABEL_STUDIO_URL"),
        label_studio_api_key=read_key(key, "environment variable LABEL_STUDIO_API_KEY") if key else None,
        label_studio_public_url=_address(environ, "LABEL_STUDIO_PUBLIC_URL"),
        basic_password=environ.get("MASKAL_BASIC_PASSWORD") or None,
        webhook_secret=environ.get("MASKAL_WEBHOOK_SECRET") or None,
        viewer_password=environ.get("MASKAL_VIEWER_PASSWORD") or None,
        metrics_password=environ.get("MASKAL_METRICS_PASSWORD") or None,
        public_url=_address(environ, "PUBLIC_URL"),
        max_image_mb=_number(environ, "MAX_IMAGE_MB", Settings.max_image_mb),
        max_image_megapixels=_number(environ, "MAX_IMAGE_MEGAPIXELS", Settings.max_image_megapixels),
        image_cache_gb=_number(environ, "IMAGE_CACHE_GB", Settings.image_cache_gb),
        feature_cache_gb=_number(environ, "FEATURE_CACHE_GB", Settings.feature_cache_gb),
        task_lock_s=_number(environ, "TASK_LOCK_TTL", Settings.task_lock_s),
        allowed_private_hosts=tuple(host.strip() for host in hosts.split(",") if host.strip()),
        label_studio_executable=environ.get("LABEL_STUDIO_EXECUTABLE") or None,
    )


def read_log_format(environ: Mapping[str, str] | None = None) -> str:
    """How the log is written, "text" or "json" (LOG_FORMAT); BadSetting for anything else."""
    chosen = (os.environ if environ is None else environ).get("LOG_FORMAT", "").strip() or LOG_FORMATS[0]
    if chosen not in LOG_FORMATS:
        raise BadSetting(f"environment variable LOG_FORMAT must be {' or '.join(LOG_FORMATS)}, got {chosen!r}")
    return chosen


def read_address(text: str, name: str) -> str:
    """A web address as people paste it, without what stands around it; BadSetting names the setting if it is none."""
    address = text.strip().rstrip("/")
    try:
        parts = urlsplit(address)
        is_whole = parts.scheme.lower() in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # such as a port that is no number
        is_whole = False
    if not is_whole or re.search(r"[\s?#'\"\\]", address) or not address.isprintable():
        raise BadSetting(
            f"{name} must be an address such as http://127.0.0.1:8080 or https://host/label-studio, got {text!r}"
        )
    return address


def read_key(text: str, name: str) -> str:
    """An API key as people paste it, without what stands around it; BadSetting names the setting if it is none."""
    key = text.strip()
    if not re.fullmatch(r"[!-~]+", key):
        raise BadSetting(f"{name} must be the API key alone, without blanks or a word before it; copy it again")
    return key


def proxy_for(url: str) -> str | None:
    """The proxy by which an address is asked: HTTP_PROXY, HTTPS_PROXY or ALL_PROXY; None where NO_PROXY has its host.

    Nor does a proxy know what this machine calls itself.
    """
    parts, proxies = urlsplit(url), getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    is_here = parts.hostname in ("localhost", "::1") or (parts.hostname or "").startswith("127.")
    if not proxy or is_here or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def certificates() -> tuple[str | None, str | None]:
    """The file and the folder of the certificates that are trusted, where SSL_CERT_FILE or SSL_CERT_DIR names them."""
    return os.environ.get("SSL_CERT_FILE") or None, os.environ.get("SSL_CERT_DIR") or None


def draw_bars_seldom() -> None:
    """Have progress bars drawn twice a minute, as is enough for a file, in which each drawing stays; before any is."""
    os.environ.setdefault("TQDM_MININTERVAL", "30")


def child_environment(**changes: str) -> dict[str, str]:
    """This process's environment with some variables set, for a child process."""
    return {**os.environ, **changes}


def _folder(environ: Mapping[str, str], name: str, default: str) -> Path:
    path = Path(environ.get(name) or default).expanduser().resolve()
    if path.is_file():
        raise BadSetting(f"environment variable {name} must be a folder, got the file {path}")
    return path


def _address(environ: Mapping[str, str], name: str) -> str | None:
    text = environ.get(name)
    return read_address(text, f"environment variable {name}") if text else None


def _number(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 < value < math.inf:  # nor nan, than which nothing is larger
        raise BadSetting(f"environment variable {name} must be a number above 0, got {text!r}")
    return value


def _host(environ: Mapping[str, str], name: str, default: str) -> str:
    """A host as addresses have it: that of IP version 6 in brackets."""
    text = environ.get(name) or default
    if ":" not in text or text.startswith("["):
        return text
    try:
        return f"[{IPv6Address(text)}]"
    except ValueError as err:
        raise BadSetting(
            f"environment variable {name} must be a host's name or address alone (the port is PORT's), got {text!r}"
        ) from err


def _port(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name) or str(default)
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise BadSetting(f"environment variable {name} must be a port from 1 to 65535, got {text!r}")
    return int(text)
