from __future__ import annotations

import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

from backend.project.config import ProjectConfig
from tests import gpu_check
from tests.benchmarks.training_race import write_photos
from tests.gpu import suite
from tests.gpu.checks import FAILED, NOT_APPLICABLE, PASSED, SKIPPED, Check, Job, Measured, NotApplicable, read_checks
from tests.gpu.parts import PARTS
from tests.gpu.scale import RESNET50
from tests.gpu.suite import Outcome, as_check, grouped
from tests.gpu.training import round_config

ROOT = Path(__file__).resolve().parents[1]
NOT_THERE = ("flask", "rq", "redis", "pydantic", "label_studio_sdk", "click", "httpx", "tenacity")


def test_it_needs_nothing_that_a_machine_with_torch_alone_lacks() -> None:
    modules = ", ".join(["tests.gpu_check", *(f"tests.gpu.{part}" for part in PARTS)])
    code = f"import sys, {modules}; print([name for name in {NOT_THERE} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("part", PARTS)
def test_every_part_can_be_checked(part: str) -> None:
    assert callable(import_module(f"tests.gpu.{part}").check)


def test_all_that_is_marked_gpu_is_run() -> None:
    marked = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tests").rglob("test_*.py")
        if "pytest.mark.gpu" in path.read_text() and path != Path(__file__)
    }
    assert marked and marked <= set(suite.TESTS)


@pytest.mark.parametrize("network", ["nano", RESNET50])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_it_trains_as_a_round_does(tmp_path: Path, network: str, device: str) -> None:
    ours = round_config(network, device, 50)
    records = write_photos(tmp_path, 1, 64)
    usual = ProjectConfig(train_iterations_base=50).training_config(network, records, warm=False, seed=0, device=device)
    for name in ("iterations", "learning_rate", "batch_size", "warmup_iterations", "weight_decay", "optimizer"):
        assert getattr(ours, name) == getattr(usual, name), name
    assert (ours.learning_policy, ours.num_workers) == (usual.learning_policy, usual.num_workers)


def job(folder: Path, seconds: float = 60) -> Job:
    return Job("scoring", "cpu", True, time.time() + seconds, folder)


def test_a_check_that_fails_does_not_hide_the_next(tmp_path: Path) -> None:
    def inapplicable() -> Measured:
        raise NotApplicable("no such network")

    checks = job(tmp_path)
    checks.check("broken", lambda: Measured({"share": 1 / 0}))
    checks.check("wrong", lambda: Measured({"share": 2}, "wanted at most 1"))
    checks.check("absent", inapplicable)
    checks.check("right", lambda: Measured({"share": float("nan")}))
    checks.check("long", lambda: Measured({}), needs_s=100)
    found = read_checks(tmp_path, "scoring")
    assert [check.status for check in found] == [FAILED, FAILED, NOT_APPLICABLE, PASSED, SKIPPED]
    assert "ZeroDivisionError" in found[0].problem
    assert found[1].figures == {"share": 2} and found[1].problem == "wanted at most 1"
    assert found[3].figures == {"share": None}
    assert found[4].problem == "no time left"


def test_what_there_is_no_time_for_is_named(tmp_path: Path) -> None:
    options = gpu_check.Options("cpu", True, 0.0, ("suite", "scoring"))
    assert [(c.part, c.status, c.problem) for c in gpu_check.run(options, tmp_path)] == [
        ("suite", SKIPPED, "no time left"),
        ("scoring", SKIPPED, "no time left"),
    ]


def test_a_process_that_breaks_is_told_with_its_last_words(tmp_path: Path) -> None:
    options = gpu_check.Options("nonsense", True, 60.0, ("machine",))
    [check] = gpu_check.run(options, tmp_path)
    assert (check.name, check.status) == ("process", FAILED)
    assert "nonsense" in check.problem


def test_the_contract_is_one_line_a_network_and_the_worst_test_counts() -> None:
    outcomes = {
        f"{suite.CONTRACT}::test_a[nano-exact]": Outcome(),
        f"{suite.CONTRACT}::test_a[nano-fast]": Outcome(FAILED, "off by one"),
        f"{suite.CONTRACT}::test_a[fake-fast]": Outcome(NOT_APPLICABLE, "no GPU"),
        "tests/test_b.py::test_b": Outcome(figures={"error": 1}),
    }
    checks = [as_check("suite", *group) for group in grouped(outcomes).items()]
    assert [(c.name, c.status) for c in checks] == [
        ("contract of nano", FAILED),
        ("contract of fake", NOT_APPLICABLE),
        ("test_b", PASSED),
    ]
    assert checks[0].figures == {PASSED: 1, FAILED: 1} and "test_a[nano-fast]\noff by one" in checks[0].problem
    assert checks[2].figures == {"error": 1}


def test_a_check_is_one_row() -> None:
    row = gpu_check.line(Check("scoring", "stages", PASSED, {"fast": {"encode": 3}, "n": 2}, "", 1.25, 900))
    assert " ".join(row.split()) == "passed scoring stages 1.2 s 900 MiB fast encode 3, n 2"
