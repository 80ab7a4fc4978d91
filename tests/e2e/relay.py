"""A relay between Label Studio's webhook and the backend that loses, repeats and shuffles events."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx


@dataclass
class Log:
    """How many events came, how many were dropped, how many calls went on."""

    came: int = 0
    dropped: int = 0
    sent: list[int] = field(default_factory=list)


@contextmanager
def relay(target: str, *, drop: float, repeat: float, delay_s: float, seed: int = 1) -> Iterator[tuple[str, Log]]:
    """The relay's address and its log; each event goes on after a random time of up to `delay_s`, so in any order."""
    chance, log, timers = random.Random(seed), Log(), []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(201)
            self.end_headers()
            number, log.came = log.came, log.came + 1
            if chance.random() < drop:
                log.dropped += 1
                return
            headers = {name: value for name, value in self.headers.items() if name.startswith(("X-", "Content-Type"))}
            for _ in range(2 if chance.random() < repeat else 1):
                timer = threading.Timer(chance.uniform(0, delay_s), send, (number, body, headers))
                timers.append(timer)
                timer.start()

        def log_message(self, *args: object) -> None:
            pass

    def send(number: int, body: bytes, headers: dict[str, str]) -> None:
        assert httpx.post(target, content=body, headers=headers).status_code in (200, 201)
        log.sent.append(number)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/webhook", log
    finally:
        server.shutdown()
        server.server_close()
        for timer in timers:
            timer.join()
