"""Settings of a process, read from the environment: the only place that does so."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from backend.errors import BadSetting

DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"


@dataclass(frozen=True)
class Settings:
    """Where things are and how large they may be.

    data_dir            versions, rounds, secrets and the image cache (DATA_DIR)
    redis_url           the queue; None: DEFAULT_REDIS_URL, and `maskal demo` starts its own (REDIS_URL)
    host, port          where `maskal serve` listens (HOST, PORT)
    backend_url         this backend as Label Studio reaches it (BACKEND_URL)
    label_studio_url, label_studio_api_key   win over what `maskal connect` stored (LABEL_STUDIO_URL, ..._API_KEY)
    basic_password, webhook_secret           likewise (MASKAL_BASIC_PASSWORD, MASKAL_WEBHOOK_SECRET)
    max_image_mb, max_image_megapixels       larger images are refused (MAX_IMAGE_MB, MAX_IMAGE_MEGAPIXELS)
    image_cache_gb      size of the image cache on disk (IMAGE_CACHE_GB)
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
    basic_password: str | None = None
    webhook_secret: str | None = None
    max_image_mb: float = 200.0
    max_image_megapixels: float = 100.0
    image_cache_gb: float = 20.0
    task_lock_s: float = 24 * 3600.0
    allowed_private_hosts: tuple[str, ...] = ()
    label_studio_executable: str | None = None


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment; BadSetting names a variable whose value does not fit."""
    environ = os.environ if environ is None else environ
    hosts = environ.get("ALLOWED_PRIVATE_HOSTS", "")
    return Settings(
        data_dir=Path(environ.get("DATA_DIR") or "maskal-data").expanduser().resolve(),
        redis_url=environ.get("REDIS_URL") or None,
        host=environ.get("HOST") or Settings.host,
        port=int(_number(environ, "PORT", Settings.port)),
        backend_url=environ.get("BACKEND_URL") or None,
        label_studio_url=environ.get("LABEL_STUDIO_URL") or None,
        label_studio_api_key=environ.get("LABEL_STUDIO_API_KEY") or None,
        basic_password=environ.get("MASKAL_BASIC_PASSWORD") or None,
        webhook_secret=environ.get("MASKAL_WEBHOOK_SECRET") or None,
        max_image_mb=_number(environ, "MAX_IMAGE_MB", Settings.max_image_mb),
        max_image_megapixels=_number(environ, "MAX_IMAGE_MEGAPIXELS", Settings.max_image_megapixels),
        image_cache_gb=_number(environ, "IMAGE_CACHE_GB", Settings.image_cache_gb),
        task_lock_s=_number(environ, "TASK_LOCK_TTL", Settings.task_lock_s),
        allowed_private_hosts=tuple(host.strip() for host in hosts.split(",") if host.strip()),
        label_studio_executable=environ.get("LABEL_STUDIO_EXECUTABLE") or None,
    )


def child_environment(**changes: str) -> dict[str, str]:
    """This process's environment with some variables set, for a child process."""
    return {**os.environ, **changes}


def _number(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = -1
    if value <= 0:
        raise BadSetting(f"environment variable {name} must be a number above 0, got {text!r}")
    return value
