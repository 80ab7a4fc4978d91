"""Keys and passwords: from the environment first, else from DATA_DIR/secrets.json (mode 0600)."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backend.errors import BadSetting
from backend.settings import Settings
from model.files import read_json, write_json

BASIC_USER = "maskal"
SECRET_HEADER = "X-Maskal-Secret"
PASSWORDS = ("basic_password", "webhook_secret")
SENDABLE = re.compile(r"[!-~]([ -~]*[!-~])?")
"""What Label Studio can put into a header: it encodes passwords as Latin-1, where others expect UTF-8."""


@dataclass(frozen=True)
class Credentials:
    """What this backend knows of Label Studio, and what Label Studio must show to it."""

    label_studio_url: str | None
    label_studio_api_key: str | None
    basic_password: str
    webhook_secret: str
    label_studio_public_url: str | None = None

    def __repr__(self) -> str:
        return f"Credentials(label_studio_url={self.label_studio_url!r}, ...)"

    def require_label_studio(self) -> tuple[str, str]:
        """Address and API key; BadSetting says how to set them if one is missing."""
        if not self.label_studio_url or not self.label_studio_api_key:
            raise BadSetting(
                "the address or API key of Label Studio is not known; run `maskal connect --url ... --api-key ...` "
                "or set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY"
            )
        return self.label_studio_url, self.label_studio_api_key


def forget_label_studio(settings: Settings) -> None:
    """Keep the passwords only, as a running backend goes on with them."""
    load_credentials(settings)  # which makes them
    path = settings.data_dir / "secrets.json"
    stored = _stored(path)
    write_json(path, {name: stored[name] for name in PASSWORDS}, mode=0o600)


def fingerprint(settings: Settings) -> str:
    """A short hash by which two processes see whether they have the same DATA_DIR.

    It is of the stored passwords: some processes may be given others by their environment.
    """
    load_credentials(settings)  # which makes them
    stored = _stored(settings.data_dir / "secrets.json")
    secret = ":".join(stored[name] for name in PASSWORDS)
    return hashlib.sha256(secret.encode()).hexdigest()[:16]


def load_credentials(settings: Settings) -> Credentials:
    """Read the credentials, making and storing the passwords that do not exist yet.

    BadSetting if the file was damaged, or changed by hand into what it cannot be, or if Label Studio cannot send one.
    """
    path = settings.data_dir / "secrets.json"
    if not path.exists():
        _make_passwords(path)
    stored = _stored(path)
    credentials = Credentials(
        label_studio_url=settings.label_studio_url or stored.get("label_studio_url"),
        label_studio_api_key=settings.label_studio_api_key or stored.get("label_studio_api_key"),
        basic_password=settings.basic_password or stored["basic_password"],
        webhook_secret=settings.webhook_secret or stored["webhook_secret"],
        label_studio_public_url=settings.label_studio_public_url or stored.get("label_studio_public_url"),
    )
    for name in PASSWORDS:
        if not SENDABLE.fullmatch(getattr(credentials, name)):
            raise BadSetting(
                f"{name} (in MASKAL_{name.upper()} or secrets.json) must be of letters without umlauts and the like, "
                "digits and signs, no blank at its ends: Label Studio cannot send others; choose another one and run "
                "`maskal connect` for each project"
            )
    return credentials


def _stored(path: Path) -> dict[str, Any]:
    """What the file holds, both passwords among it; an error names no folder, as strangers may see it."""
    try:
        stored = read_json(path)
    except ValueError:
        stored = None
    missing = [name for name in PASSWORDS if not (isinstance(stored, dict) and isinstance(stored.get(name), str))]
    if missing:
        what = f"has no {' and no '.join(missing)}" if isinstance(stored, dict) else "holds no JSON object"
        raise BadSetting(
            f"{path.name} in DATA_DIR {what}; restore it from a backup, or delete it and run `maskal connect` with "
            "--url and --api-key again for each project"
        )
    return dict(stored)


def _make_passwords(path: Path) -> None:
    """Write the file once, whole, even where the web app and a worker start together."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".secrets-{secrets.token_hex(8)}")
    write_json(fresh, {name: secrets.token_urlsafe(24) for name in PASSWORDS}, mode=0o600)
    try:
        os.link(fresh, path)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()


def store_label_studio(settings: Settings, url: str, api_key: str, public_url: str | None = None) -> Credentials:
    """Keep the addresses and the key of Label Studio for the web app and the workers.

    Passwords of the environment are not stored: they go when it does.
    """
    known = load_credentials(settings)
    path = settings.data_dir / "secrets.json"
    given: dict[str, Any] = {
        "label_studio_url": url,
        "label_studio_api_key": api_key,
        "label_studio_public_url": public_url,
    }
    write_json(path, {**_stored(path), **given}, mode=0o600)
    return replace(known, **given)
