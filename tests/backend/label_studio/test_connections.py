from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any

import certifi
import pytest

from backend.label_studio.connections import open_http


def test_trusted_certificates_are_read_once_and_again_where_they_were_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading them takes longer than most calls do, and each image that is fetched is a connection of its own."""
    trusted, read, as_ever = tmp_path / "trusted.pem", list[str](), ssl.create_default_context

    def noted(**options: Any) -> ssl.SSLContext:
        read.append(options["cafile"])
        return as_ever(**options)

    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.setattr(ssl, "create_default_context", noted)
    trusted.write_bytes(Path(certifi.where()).read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    for address in ("http://127.0.0.1:8080", "https://example.org", "https://example.org"):
        open_http(address).close()
    assert read == [str(trusted)]
    os.utime(trusted, (0, 0))
    open_http("https://example.org").close()
    assert read == [str(trusted)] * 2
    monkeypatch.delenv("SSL_CERT_FILE")
    open_http("https://example.org").close()
    assert read[2:] == [certifi.where()]
