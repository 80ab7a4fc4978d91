"""Local servers of images, and what reads from them."""

from __future__ import annotations

import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from PIL import Image

from backend.label_studio.client import LabelStudio
from backend.label_studio.images import Images
from backend.settings import Settings


def png(width: int, height: int, **options: object) -> bytes:
    content = io.BytesIO()
    Image.effect_noise((width, height), 60).convert("RGB").save(content, "PNG", **options)
    return content.getvalue()


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.together: dict[str, threading.Barrier] = {}
        self.closed: set[str] = set()
        self.failures: dict[str, int] = {}
        self.etags: dict[str, str] = {}
        self.dates: dict[str, str] = {}
        self.seen: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers.get("Authorization")))
        if self.path in self.server.together:
            self.server.together[self.path].wait(60)
        if self.path in self.server.redirects:
            self.send_response(302)
            self.send_header("Location", self.server.redirects[self.path])
            self.end_headers()
            return
        if self.server.failures.get(self.path, 0) > 0:
            self.server.failures[self.path] -= 1
            self.send_response(503)
            self.end_headers()
            return
        if self.path in self.server.closed and self.headers.get("Authorization") in (None, "Token revoked"):
            self.send_response(401)
            self.end_headers()
            return
        content, etag = self.server.files.get(self.path), self.server.etags.get(self.path)
        if etag is not None and self.headers.get("If-None-Match") == etag:
            self.send_response(304)
            self.end_headers()
            return
        self.send_response(404 if content is None else 200)
        if etag is not None:
            self.send_header("ETag", etag)
        if self.path in self.server.dates:
            self.send_header("Last-Modified", self.server.dates[self.path])
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *args: object) -> None:
        pass


def images(label_studio: Server, folder: Path, **settings: object) -> Images:
    return Images(LabelStudio(label_studio.url, "the-key"), Settings(data_dir=folder, **settings))
