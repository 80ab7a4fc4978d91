"""What the tests know of the machine: the device on which engines are tested, and whether there is a GPU."""

from __future__ import annotations

import os

import pytest
import torch


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="where engines are tested: cpu, cuda or cuda:1  [default: cpu]")


def pytest_configure() -> None:
    """Processes that test side by side share the cores, with all that they start."""
    if beside := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
        threads = max((os.cpu_count() or 1) // beside, 1)
        torch.set_num_threads(threads)
        os.environ["OMP_NUM_THREADS"] = str(threads)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("--device"))
