"""The Docker files, without Docker: what they name exists, and what they must set is set."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from backend.cli import main

ROOT = Path(__file__).resolve().parents[1]
DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
OURS = ("backend", "worker")


def services() -> dict[str, Any]:
    return dict(yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"])


@pytest.mark.parametrize("switch", ["ML_BLOCK_LOCAL_IP", "SSRF_PROTECTION_ENABLED"])
def test_both_network_switches_of_label_studio_are_off(switch: str) -> None:
    assert services()["label-studio"]["environment"][switch] == "false"


@pytest.mark.parametrize("name", OURS)
def test_our_services_run_commands_that_exist(name: str) -> None:
    (command,) = services()[name]["command"]
    assert command in main.commands


def test_the_image_starts_a_command_that_exists() -> None:
    assert re.search(r'ENTRYPOINT \["maskal"\]\nCMD \["(\w+)"\]', DOCKERFILE)[1] in main.commands


def test_everything_that_is_copied_exists() -> None:
    sources = [name for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.M) for name in line.split()[:-1]]
    assert len(sources) >= 8
    assert [name for name in sources if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("name", OURS)
def test_our_services_set_only_what_is_read(name: str) -> None:
    read = set(re.findall(r'"([A-Z_]{4,})"', (ROOT / "backend" / "settings.py").read_text()))
    assert set(services()[name]["environment"]) <= read


def test_web_and_worker_share_data_and_queue() -> None:
    web, worker = (services()[name] for name in OURS)
    assert web["volumes"] == worker["volumes"] == ["maskal-data:/data"]
    assert web["environment"] == worker["environment"]


def test_every_variable_stands_in_the_example_and_has_no_live_value() -> None:
    wanted = set(re.findall(r"\$\{(\w+)", (DOCKER / "compose.yaml").read_text()))
    example = dict(line.split("=", 1) for line in (DOCKER / ".env.example").read_text().splitlines() if "=" in line)
    assert wanted == example.keys()
    assert set(example.values()) == {""}


def test_the_gpu_file_changes_services_and_a_target_that_exist() -> None:
    gpu = yaml.safe_load((DOCKER / "compose.gpu.yaml").read_text())["services"]
    assert gpu.keys() <= services().keys()
    targets = re.findall(r"^FROM \S+ AS (\w+)$", DOCKERFILE, re.M)
    assert {"cpu", "gpu"} <= set(targets)
    assert all(service["build"]["target"] in targets for service in gpu.values())


def test_no_package_index_is_named() -> None:
    for path in DOCKER.iterdir():
        assert not re.search(r"index-url|find-links|pypi|trusted-host", path.read_text())
