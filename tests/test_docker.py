"""The Docker files, without Docker: what they name exists, what they must set is set, and their commands run."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from redis import Redis
from rq import Worker

from backend.cli import main
from backend.queue.jobs import ROUNDS, SHORT
from backend.settings import read_log_format, read_settings
from backend.system.processes import GRACE_S, KILLED_S, Processes, free_port
from backend.system.redis_server import start_redis
from backend.web.server import GRACEFUL_TIMEOUT_S

ROOT = Path(__file__).resolve().parents[1]
DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
COMPOSE = (DOCKER / "compose.yaml").read_text()
OURS = ("backend", "worker")


def services() -> dict[str, Any]:
    return dict(yaml.safe_load(COMPOSE)["services"])


def copied() -> list[str]:
    """What the Dockerfile copies, relative to the repository."""
    return [name for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.M) for name in line.split()[:-1]]


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes() as started:
        yield started


@pytest.mark.parametrize("switch", ["ML_BLOCK_LOCAL_IP", "SSRF_PROTECTION_ENABLED"])
def test_both_network_switches_of_label_studio_are_off(switch: str) -> None:
    assert services()["label-studio"]["environment"][switch] == "false"


@pytest.mark.parametrize("name", OURS)
def test_our_services_run_commands_that_exist(name: str) -> None:
    (command,) = services()[name]["command"]
    assert command in main.commands


def test_the_image_starts_a_command_that_exists() -> None:
    (entrypoint,) = re.findall(r"^ENTRYPOINT (.+)$", DOCKERFILE, re.M)
    (command,) = re.findall(r"^CMD (.+)$", DOCKERFILE, re.M)
    assert json.loads(entrypoint) == ["maskal"]
    assert json.loads(command)[0] in main.commands


def test_everything_that_is_copied_exists_and_passes_the_ignore_file() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    passed = {line[1:] for line in lines if line.startswith("!")}
    assert {"backend", "model", "sampling", "setup.cfg", "constraints.txt"} <= set(copied())
    assert [name for name in copied() if not (ROOT / name).exists()] == []
    assert lines.index("*") < min(lines.index(f"!{name}") for name in passed)
    assert passed == set(copied())


def test_the_image_does_not_run_as_root() -> None:
    final = DOCKERFILE[DOCKERFILE.rindex("\nRUN ") :]
    assert re.search(r"^USER (?!root\b|0\b)\w+$", final, re.M)


@pytest.mark.parametrize("variable", ["TORCH_HOME", "HF_HOME"])
def test_downloaded_weights_are_kept_where_a_new_container_finds_them(variable: str) -> None:
    (volume,) = re.findall(r"^VOLUME (\S+)$", DOCKERFILE, re.M)
    (folder,) = re.findall(rf"\b{variable}=(\S+)", DOCKERFILE)
    assert folder.startswith(f"{volume}/cache/")


@pytest.mark.parametrize("name", OURS)
def test_our_services_set_only_what_is_read(name: str) -> None:
    readers = (read_settings, read_log_format)
    read = {name for one in readers for name in re.findall(r'"([A-Z][A-Z_]+)"', inspect.getsource(one))}
    given = set(services()[name]["environment"])
    assert {"DATA_DIR", "REDIS_URL", "BACKEND_URL", "LABEL_STUDIO_URL"} <= given
    assert given <= read


def test_web_and_worker_share_data_and_queue() -> None:
    web, worker = (services()[name] for name in OURS)
    assert web["volumes"] == worker["volumes"] == ["maskal-data:/data"]
    assert web["environment"] == worker["environment"]


def test_nothing_but_our_own_reaches_redis_and_it_asks_for_a_password() -> None:
    reach = {name: set(one.get("networks", ["default"])) for name, one in services().items()}
    assert {name for name, networks in reach.items() if networks & reach["redis"]} == {*OURS, "redis"}
    assert all("default" in reach[name] for name in OURS), "they call Label Studio"
    command = services()["redis"]["command"]
    password = command[command.index("--requirepass") + 1].split(":")[0]
    assert all(password in services()[name]["environment"]["REDIS_URL"] for name in OURS)
    assert password in services()["redis"]["environment"]["REDISCLI_AUTH"]


def test_the_backends_address_names_a_host_with_a_dot_that_the_network_knows() -> None:
    backend = services()["backend"]
    url = httpx.URL(backend["environment"]["BACKEND_URL"])
    assert "." in url.host, "Label Studio refuses webhooks to a host without a dot"
    assert url.host in backend["networks"]["default"]["aliases"]
    assert str(url.port) == backend["environment"]["PORT"]


def test_stop_grace_leaves_time_for_what_stopping_takes_at_most() -> None:
    web, worker = (float(services()[name]["stop_grace_period"].rstrip("s")) for name in OURS)
    assert worker > GRACE_S + KILLED_S, "the supervisor would be killed before its children"
    assert web > GRACEFUL_TIMEOUT_S, "requests on their way would be cut off"


def test_worker_yields_the_processors_to_the_web_app() -> None:
    web, worker = (services()[name].get("cpu_shares", 1024) for name in OURS)
    assert worker < web


def test_every_service_waits_for_services_that_can_become_healthy() -> None:
    all_services = services()
    for service in all_services.values():
        for name, wait in service.get("depends_on", {}).items():
            assert wait == {"condition": "service_healthy"}
            assert "test" in all_services[name]["healthcheck"]


def test_every_volume_is_declared() -> None:
    used = {volume.split(":")[0] for service in services().values() for volume in service.get("volumes", [])}
    assert used == set(yaml.safe_load(COMPOSE)["volumes"])


def test_only_label_studio_and_the_pages_are_published_and_only_on_this_machine() -> None:
    ports = {name: service["ports"] for name, service in services().items() if "ports" in service}
    assert ports == {"label-studio": ["127.0.0.1:8080:8080"], "backend": ["127.0.0.1:9090:9090"]}


def test_browsers_are_led_to_the_ports_that_are_published() -> None:
    environment = services()["backend"]["environment"]
    ports = [environment[name].rpartition(":")[2].rstrip("}") for name in ("LABEL_STUDIO_PUBLIC_URL", "PUBLIC_URL")]
    assert ports == ["8080", "9090"]


def test_every_variable_stands_in_the_example_and_has_no_live_value() -> None:
    wanted = set(re.findall(r"\$\{?(\w+)", COMPOSE))
    lines = (DOCKER / ".env.example").read_text().splitlines()
    example = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert wanted == example.keys()
    assert set(example.values()) == {""}


def test_a_missing_password_stops_the_start() -> None:
    secrets = re.findall(r"\$\{(\w*(?:PASSWORD|USERNAME))(.*?)\}", COMPOSE)
    needed = {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "LABEL_STUDIO_USERNAME", "LABEL_STUDIO_PASSWORD"}
    optional = {"MASKAL_VIEWER_PASSWORD", "MASKAL_METRICS_PASSWORD"}  # without them there is no viewer, no Prometheus
    assert {name for name, _ in secrets} == needed | optional
    assert all(rest.startswith(":?") for name, rest in secrets if name in needed)


def test_the_gpu_file_changes_services_and_a_target_that_exist() -> None:
    gpu = yaml.safe_load((DOCKER / "compose.gpu.yaml").read_text())["services"]
    assert gpu.keys() == set(OURS)
    targets = re.findall(r"^FROM \S+ AS (\w+)$", DOCKERFILE, re.M)
    assert {"cpu", "gpu"} <= set(targets)
    for service in gpu.values():
        assert service["build"]["target"] == "gpu"
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device["driver"] == "nvidia"


def test_no_package_index_is_named() -> None:
    for path in DOCKER.iterdir():
        assert not re.search(r"index-url|find-links|pypi|trusted-host|download\.pytorch", path.read_text()), path


def local_environment(folder: Path, port: int, redis_url: str) -> dict[str, str]:
    """Our services' environment in the compose file, its addresses replaced by those of this machine."""
    local = {
        "DATA_DIR": str(folder / "data"),
        "REDIS_URL": redis_url,
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "BACKEND_URL": f"http://127.0.0.1:{port}",
        "LABEL_STUDIO_URL": f"http://127.0.0.1:{free_port()}",
        "LABEL_STUDIO_PUBLIC_URL": "",
        "PUBLIC_URL": "",
        "MASKAL_VIEWER_PASSWORD": "",
        "MASKAL_METRICS_PASSWORD": "",
        "LOG_FORMAT": "",
        "LABEL_STUDIO_API_KEY": "",
        "ALLOWED_PRIVATE_HOSTS": "",
        "TASK_LOCK_TTL": "86400",
    }
    assert local.keys() == services()["backend"]["environment"].keys()
    return {**os.environ, **local}


def maskal(service: str) -> list[str]:
    return [str(Path(sys.executable).with_name("maskal")), *services()[service]["command"]]


def is_healthy(environment: dict[str, str]) -> bool:
    """Whether the image's own health check passes."""
    (check,) = re.findall(r"^HEALTHCHECK .*\\\n +CMD (.+)$", DOCKERFILE, re.M)
    python, *arguments = json.loads(check)
    assert python == "python"
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True).returncode == 0


def test_the_backend_serves_health_in_the_compose_environment(tmp_path: Path, processes: Processes) -> None:
    nobody = f"redis://127.0.0.1:{free_port()}/0"  # `serve` starts without Redis
    environment = local_environment(tmp_path, free_port(), nobody)
    assert not is_healthy(environment)
    processes.start(
        "backend",
        maskal("backend"),
        env=environment,
        log=tmp_path / "backend.log",
        ready=lambda: is_healthy(environment),
        timeout_s=120,
    )
    assert httpx.get(f"http://127.0.0.1:{environment['PORT']}/health").status_code == 200
    assert (tmp_path / "data").is_dir()


def test_the_worker_works_on_both_queues_in_the_compose_environment(tmp_path: Path, processes: Processes) -> None:
    redis_url = start_redis(processes, tmp_path / "redis", tmp_path / "redis.log")
    redis = Redis.from_url(redis_url)
    processes.start(
        "worker",
        maskal("worker"),
        env=local_environment(tmp_path, free_port(), redis_url),
        log=tmp_path / "worker.log",
        ready=lambda: {queue for worker in Worker.all(redis) for queue in worker.queue_names()} == {ROUNDS, SHORT},
        timeout_s=120,
    )
    processes.check()
