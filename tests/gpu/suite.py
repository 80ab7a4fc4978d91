"""The tests that ask something of a device: the engines' contract, and all that is marked `gpu`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.gpu.checks import FAILED, NO_TIME_LEFT, NOT_APPLICABLE, PASSED, SKIPPED, Check, Job

CONTRACT = "tests/model/engines/test_contract.py"
TESTS = (
    "tests/model/engines/torchvision/test_memory.py",
    "tests/model/engines/torchvision/test_device.py",
    "tests/model/training/test_resuming.py::test_a_network_goes_on_with_the_same_losses",
    CONTRACT,
)
"""Those in which a failure tells most come first."""

RESERVE_S = 5.0


@dataclass
class Outcome:
    """Of one test: its status as in Check, why, what it told of itself, and how long it took."""

    status: str = PASSED
    problem: str = ""
    figures: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


class Recorder:
    """A plugin that keeps the outcome of each test as soon as it is there, and leaves out the rest in want of time."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.outcomes: dict[str, Outcome] = defaultdict(Outcome)

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if self.job.left_s < RESERVE_S:
            pytest.skip(NO_TIME_LEFT)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        outcome = self.outcomes[report.nodeid]
        outcome.seconds += report.duration
        outcome.figures |= dict(report.user_properties)
        if report.failed:
            outcome.status, outcome.problem = FAILED, report.longreprtext
        elif report.skipped:
            outcome.problem = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
            outcome.status = SKIPPED if NO_TIME_LEFT in outcome.problem else NOT_APPLICABLE

    def pytest_runtest_logfinish(self) -> None:
        self.job.keep([as_check(self.job.part, *group) for group in grouped(self.outcomes).items()])

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.outcomes[report.nodeid] = Outcome(FAILED, report.longreprtext)


def check(job: Job) -> None:
    """A check for each test, and one for each network of the contract."""
    recorder = Recorder(job)
    options = [f"--device={job.device}", "-q", "-p", "no:cacheprovider", *job.scale.tests]
    pytest.main([*TESTS, *options], plugins=[recorder])
    if not any(outcome.seconds for outcome in recorder.outcomes.values()):
        job.note(Check(job.part, "pytest", FAILED, problem="no test ran; see the log"))


def grouped(outcomes: dict[str, Outcome]) -> dict[str, dict[str, Outcome]]:
    """By what a line of the table tells: a test, or the contract of a network."""
    groups: dict[str, dict[str, Outcome]] = defaultdict(dict)
    for test, outcome in outcomes.items():
        _, _, name = test.partition("::")
        network = name.partition("[")[2].rstrip("]").removesuffix("-exact").removesuffix("-fast")
        groups[f"contract of {network or 'the loader'}" if test.startswith(CONTRACT) else name or test][test] = outcome
    return groups


def as_check(part: str, name: str, outcomes: dict[str, Outcome]) -> Check:
    """The worst outcome of some tests, with the reasons of all that are as bad."""
    counts = Counter(outcome.status for outcome in outcomes.values())
    status = next(s for s in (FAILED, SKIPPED, PASSED, NOT_APPLICABLE) if counts[s])
    return Check(
        part,
        name,
        status,
        {**{key: value for o in outcomes.values() for key, value in o.figures.items()}, **counted(counts)},
        "" if status == PASSED else reasons(outcomes, status),
        round(sum(outcome.seconds for outcome in outcomes.values()), 1),
    )


def counted(counts: Counter[str]) -> dict[str, int]:
    """How many tests came to what, where there are several."""
    return dict(counts) if counts.total() > 1 else {}


def reasons(outcomes: dict[str, Outcome], status: str) -> str:
    """Why tests came to a status, each reason once; failures by test."""
    found: Sequence[str] = [o.problem for o in outcomes.values() if o.status == status]
    if status == FAILED:
        found = [f"{test}\n{o.problem}" for test, o in outcomes.items() if o.status == status]
    return "\n".join(dict.fromkeys(found))
