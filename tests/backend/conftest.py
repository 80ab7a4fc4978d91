from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backend.system.processes import Processes
from backend.system.redis_server import start_redis
from tests.backend.image_servers import Server
from tests.backend.outlined_photos import save_photos, save_weights


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis."""
    folder = tmp_path_factory.mktemp("redis")
    with Processes() as processes:
        yield start_redis(processes, folder, folder / "log")


@pytest.fixture
def servers() -> Iterator[tuple[Server, Server]]:
    pair = Server(), Server()
    for server in pair:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield pair
    for server in pair:
        server.shutdown()
        server.server_close()


@pytest.fixture
def label_studio(servers: tuple[Server, Server]) -> Server:
    return servers[0]


@pytest.fixture
def answering() -> Iterator[Callable[..., str]]:
    """Start servers that answer any request with those bytes, and then go on as told; returns their addresses."""
    stopped, listeners = threading.Event(), []

    def start(answer: bytes, go_on: Callable[[socket.socket, threading.Event], object] | None = None) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def serve() -> None:
            try:
                while True:
                    connection = listener.accept()[0]
                    with connection:
                        connection.recv(4096)
                        connection.sendall(answer)
                        if go_on is not None:
                            go_on(connection, stopped)
            except OSError:
                pass  # the client or the test is done

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    stopped.set()
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of photos, with a subfolder."""
    return save_photos(tmp_path / "photos")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A checkpoint of a network that finds the squares on them."""
    return save_weights(tmp_path / "weights.safetensors")
