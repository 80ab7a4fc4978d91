from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis
from rq import Queue

from backend.project.folder import connect_folder
from backend.queue.jobs import SHORT
from backend.settings import Settings
from backend.system.processes import Processes
from backend.system.redis_server import start_redis
from tests.backend.image_servers import Server
from tests.backend.outlined_photos import save_photos, save_weights

UID = "3.1700000000"


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis."""
    folder = tmp_path_factory.mktemp("redis")
    with Processes() as processes:
        yield start_redis(processes, folder, folder / "log")


@pytest.fixture
def redis(redis_url: str) -> Redis:
    connection = Redis.from_url(redis_url)
    connection.flushall()
    return connection


@pytest.fixture
def full_redis(redis: Redis) -> Iterator[Redis]:
    """The same, with no memory left: it answers, and takes no data."""
    redis.config_set("maxmemory", 1)
    yield redis
    redis.config_set("maxmemory", 0)


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    """Of a machine with one connected project."""
    connect_folder(tmp_path, UID)
    return Settings(data_dir=tmp_path, redis_url=redis_url)


def queued(redis: Redis, queue: str = SHORT) -> list[str]:
    """Ids of the jobs that wait in a queue."""
    return list(Queue(queue, connection=redis).job_ids)


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
