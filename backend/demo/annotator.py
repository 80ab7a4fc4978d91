"""The headless demo's annotator: takes what the queue serves, answers with the truth, and checks every promise."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from backend.demo.data import DemoImage, true_regions
from backend.errors import BrokenPromise
from backend.label_studio.client import LabelStudio, Task
from backend.label_studio.labels import LabelConfig
from backend.project.folder import ProjectFolder
from backend.rounds.folder import FAILED, Round, all_rounds
from backend.rounds.snapshots import split_of
from model.rankings import RankedTask
from model.registry import Version

logger = logging.getLogger(__name__)

ROUND_TIMEOUT_S = 1800.0
POLL_S = 1.0
SAME = 1e-9


@dataclass
class RoundReport:
    """One round of the report; served tasks are those that the queue handed out after it, in order."""

    version: str
    promoted: bool
    reason: str
    annotated: int
    train: int
    val: int
    mask_ap: float | None
    mask_ap50_any_class: float | None
    metrics: dict[str, Any]
    seconds: dict[str, float]
    seconds_per_step: float
    served: list[dict[str, Any]] = field(default_factory=list)


class Annotator:
    """Plays one annotator on one project; raises BrokenPromise as soon as something is not as promised."""

    def __init__(
        self, client: LabelStudio, folder: ProjectFolder, labels: LabelConfig, images: Mapping[int, DemoImage]
    ) -> None:
        self.client, self.folder, self.labels, self.images = client, folder, labels, images
        self.submitted: dict[int, int] = {}
        self.reports: list[RoundReport] = []
        self._version: str | None = None
        self._last_score = -1.0

    def play(self, rounds: int, initial: int, pool: Callable[[int], int], check: Callable[[], None]) -> None:
        """Annotate an initial set, then after each round the next pool; one more look at the queue at the end.

        `pool` says how many come after so many rounds; `check` is called while a round is awaited, to raise if the
        system has died.
        """
        for number in range(rounds):
            for _ in range(pool(number) if number else initial):
                self._annotate(self._take())
            self._await_round(number + 1, check)
            self._check_predictions()
        self._take()

    def _take(self) -> Task:
        """The task that the queue serves now; its score must be the lowest of all that are left."""
        task = self.client.next_task(self.folder.project_id)
        if task is None:
            raise BrokenPromise("the queue is empty although tasks are left")
        if task.id in self.submitted:
            raise BrokenPromise(f"the queue serves task {task.id} again, which is annotated")
        version = self.folder.registry.current()
        if version is not None:
            self._check_place(task, version)
        return task

    def _check_place(self, task: Task, version: str) -> None:
        if version != self._version:
            self._version, self._last_score = version, -1.0
        ranking = {row.task: row for row in self.folder.registry.read_ranking(version)}
        row = ranking.get(task.id)
        if row is None:
            raise BrokenPromise(f"the queue serves task {task.id}, which {version} has not ranked")
        pushed = [p["score"] for p in self.client.predictions(task.id) if p["model_version"] == version]
        if len(pushed) != 1 or abs(pushed[0] - row.score) > SAME:
            raise BrokenPromise(
                f"task {task.id} should hold one prediction of {version} with score {row.score}, got {pushed}"
            )
        lowest = min(self._open_rows(ranking), key=lambda r: r.score)
        if row.score > lowest.score + SAME or row.score < self._last_score - SAME:
            raise BrokenPromise(
                f"the queue serves task {task.id} with score {row.score} after {self._last_score}, "
                f"although task {lowest.task} with {lowest.score} is open"
            )
        self._last_score = row.score
        self.reports[-1].served.append({"task": task.id, "score": row.score, "split": row.split})

    def _open_rows(self, ranking: Mapping[int, RankedTask]) -> list[RankedTask]:
        return [row for row in ranking.values() if row.task not in self.submitted]

    def _annotate(self, task: Task) -> None:
        regions = true_regions(self.images[task.id], self.labels)
        self.submitted[task.id] = self.client.annotate(task.id, regions)

    def _await_round(self, count: int, check: Callable[[], None]) -> None:
        """Wait until so many rounds are concluded, and add the newest to the report."""
        deadline = time.monotonic() + ROUND_TIMEOUT_S
        while True:
            check()
            known = all_rounds(self.folder)
            if known and known[-1].state.state == FAILED:
                raise BrokenPromise(f"round {known[-1].state.number} failed: {known[-1].state.reason}")
            if len(known) > count:
                raise BrokenPromise(f"round {known[-1].state.number} started itself without new annotations")
            if len(known) == count and known[-1].is_concluded:
                self._add_report(known[-1])
                return
            if time.monotonic() > deadline:
                raise BrokenPromise(
                    f"no round was concluded within {ROUND_TIMEOUT_S:.0f} s after {len(self.submitted)} annotations"
                )
            time.sleep(POLL_S)

    def _add_report(self, concluded: Round) -> None:
        version = self.folder.registry.get(concluded.version)
        snapshot = concluded.snapshot()
        seen = {entry.task for entry in snapshot.entries} if snapshot else set()
        if snapshot is None or seen != self.submitted.keys():
            lost = sorted(self.submitted.keys() - seen)
            raise BrokenPromise(f"round {concluded.state.number} did not see the annotations of the tasks {lost}")
        if version.promoted and any(c["upper"] < 0 for c in version.metrics["comparisons"]):
            raise BrokenPromise(f"{version.name} was promoted although it is significantly worse: {version.reason}")
        training = version.metrics["training"]
        self.reports.append(
            RoundReport(
                version=version.name,
                promoted=version.promoted,
                reason=version.reason,
                annotated=len(snapshot.entries),
                train=snapshot.count("train"),
                val=snapshot.count("val"),
                mask_ap=version.metrics["mask_ap"],
                mask_ap50_any_class=version.metrics["mask_ap50_any_class"],
                metrics=version.metrics,
                seconds=concluded.state.seconds,
                seconds_per_step=round(training["seconds"] / training["steps"], 4),
            )
        )
        logger.info("%s: %s", version.name, _summary(version))

    def _check_predictions(self) -> None:
        """Every open task holds a prediction of the served version, and the project follows that version."""
        version = self.folder.registry.current()
        if version is None:
            raise BrokenPromise("a round was concluded but no version is served")
        served = self.client.project(self.folder.project_id).model_version
        if served != version:
            raise BrokenPromise(f"Label Studio follows {served!r}, the registry says {version}")
        open_tasks = {t.id for t in self.client.tasks(self.folder.project_id) if not t.is_labeled}
        missing = open_tasks - self.client.tasks_with_version(self.folder.project_id, version)
        if missing:
            raise BrokenPromise(
                f"{len(missing)} open tasks hold no prediction of {version}, the first is {min(missing)}"
            )

    def report(self) -> dict[str, Any]:
        """The report as DESIGN promises it; raises BrokenPromise if the counts of annotations differ."""
        held = list(self.client.annotated_tasks(self.folder.project_id))
        in_label_studio = sum(len(task.annotations) for task in held)
        seen = self.reports[-1].annotated if self.reports else 0
        if not in_label_studio == seen == len(self.submitted):
            raise BrokenPromise(
                f"{len(self.submitted)} annotations were submitted, Label Studio holds {in_label_studio}, "
                f"the trainer saw {seen}"
            )
        for task in held:
            if any(
                split_of(task.data, task.id, self.folder.uid) != s["split"]
                for r in self.reports
                for s in r.served
                if s["task"] == task.id
            ):
                raise BrokenPromise(f"task {task.id} changed its split")
        return {
            "ok": True,
            "annotations_in_label_studio": in_label_studio,
            "annotations_seen_by_trainer": seen,
            "rounds": [asdict(r) for r in self.reports],
        }


def _summary(version: Version) -> str:
    ap, ap50 = version.metrics["mask_ap"], version.metrics["mask_ap50_any_class"]
    shown = "no validation images" if ap is None else f"mask AP {ap:.3f}, AP50 of any class {ap50:.3f}"
    return f"{shown}, {'promoted' if version.promoted else 'refused'} ({version.reason})"
