"""A project on disk with all that a page shows of it, without a Label Studio and without a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch

from backend.generated.broccoli import GeneratedImage, generate
from backend.project.folder import ProjectFolder, connect_folder
from backend.project.workplace import Workplace
from backend.rounds.effort import Effort
from backend.rounds.findings import Findings
from backend.rounds.folder import REFUSED, STATES, Round
from backend.rounds.history import note_rollback, note_version
from backend.rounds.pictures import (
    CONFUSED,
    INVENTED,
    MISSED,
    PROPOSED,
    RIGHT,
    Drawing,
    Picture,
    in_percent,
    keep_thumbnail,
)
from backend.rounds.standing import Standing, Trouble
from backend.rounds.summary import BINS, Next
from model.files import write_json
from model.geometry import mask_to_polygons
from model.rankings import RankedTask
from model.registry import Version, VersionFields
from model.stored_weights import add_version
from tests.backend.round_places import FakeImages

SIZE_HW = (240, 320)
UID = "3.1700000000"
CLASSES = ("healthy", "damaged", "matured", "cateye", "headrot")
APS = {1: 0.31, 2: 0.42, 3: 0.36, 4: 0.49, 5: 0.47, 6: 0.55}
REFUSED_ONE, ROLLED_BACK_ONE = 3, 5


@lru_cache(maxsize=64)
def draw_field(task: int) -> GeneratedImage:
    """The task's image, drawn once for all tests."""
    return next(iter(generate(1, task, SIZE_HW)))


class ShownProject:
    """Six versions of broccoli heads: the third was refused, the fifth rolled back, the sixth is served."""

    def __init__(self, data_dir: Path, classes: Sequence[str] = CLASSES, title: str = "Broccoli, field 7") -> None:
        self.folder = connect_folder(data_dir, UID)
        self.place = cast(Workplace, SimpleNamespace(folder=self.folder, images=FakeImages()))
        self.classes, self.title = tuple(classes), title

    def make_versions(self, tasks: int = 40) -> ProjectFolder:
        """All versions with their rankings, and the rounds that made them."""
        for number, ap in APS.items():
            version = self.add_version(number, ap, promoted=number != REFUSED_ONE)
            note_version(self.folder, version)
            if number != REFUSED_ONE:
                self.rank(version.name, number, tasks)
            if number == ROLLED_BACK_ONE:
                note_rollback(self.folder, version.name, "maskal-r4")
        self.folder.registry.set_current("maskal-r6")
        return self.folder

    def add_version(self, number: int, ap: float | None, *, promoted: bool) -> Version:
        rng = np.random.default_rng(number)
        half = 0.13 / np.sqrt(number)
        of_class = {name: float(np.clip((ap or 0) + rng.normal(0, 0.09), 0.02, 0.95)) for name in self.classes}
        pair = lambda value: [round(max(0, value - half), 3), round(min(1, value + half), 3)]  # noqa: E731
        metrics = {
            "mask_ap": ap,
            "interval": {
                "mask_ap": None if ap is None else pair(ap),
                "per_class": {name: pair(value) for name, value in of_class.items()},
            },
            "per_class": {
                name: {"mask_ap": value, "box_ap": value, "instances": 4 + 11 // (1 + index)}
                for index, (name, value) in enumerate(of_class.items())
            },
            "images": 3 * number,
            "training": {
                "images": 10 + 20 * number,
                "objects": {name: 12 * number * (5 - index % 5) for index, name in enumerate(self.classes)},
            },
        }
        reason = "not significantly worse on 18 validation images: mask AP +0.041 (-0.012 to +0.096) against maskal-r4"
        if not promoted:
            reason = "significantly worse on 9 validation images: mask AP -0.060 (-0.101 to -0.019) against maskal-r2"
        begun = Round(self.folder.rounds / str(number))
        begun.state.state, begun.state.reason = STATES[-1] if promoted else REFUSED, reason
        begun.save()
        fields = VersionFields(number, self.classes, "fake", {}, metrics, None, "", promoted, reason)
        return add_version(self.folder.registry, fields, {"w": torch.zeros(1)})

    def rank(self, version: str, number: int, tasks: int) -> None:
        rng = np.random.default_rng(number)
        certainties = np.sort(np.clip(rng.normal(0.45 + 0.06 * number, 0.17, tasks), 0.01, 0.99))
        rows = [RankedTask(100 + i, float(c), i, float(c), "train", []) for i, c in enumerate(certainties)]
        self.folder.registry.write_ranking(version, rows)
        summary = {
            "format": 1,
            "certainties": np.histogram(certainties, BINS, (0, 1))[0].tolist(),
            "without": tasks // 13,
            "front": [asdict(self.next(row, i)) for i, row in enumerate(rows[:14])] if number == max(APS) else [],
            "findings": asdict(self.findings()) if number == max(APS) else None,
        }
        self.folder.registry.write_summary(version, summary)

    def next(self, row: RankedTask, index: int) -> Next:
        picture = self.picture(row.task, [PROPOSED])
        reasons = (f"less certain than {99 - index} % of the open images", "a validation image, by chance")
        return Next(picture, reasons[index % 5 == 4], row.certainty)

    def picture(self, task: int, kinds: Sequence[str]) -> Picture:
        """A field, whose heads are outlined as one kind after the other."""
        field = draw_field(task)
        name = keep_thumbnail(self.place, f"{task}.jpg", field.image)
        drawings = []
        for index, mask in enumerate(field.masks):
            label = self.classes[index % len(self.classes)]
            rings = in_percent(mask_to_polygons(mask), SIZE_HW)
            drawings.append(Drawing(kinds[index % len(kinds)], label, rings))
        return Picture(task, name, SIZE_HW, drawings)

    def findings(self) -> Findings:
        classes = len(self.classes)
        table = np.random.default_rng(0).integers(0, 3, (classes + 1, classes + 1))
        table += np.diag(np.append(np.arange(classes, 0, -1) * 6, 0))
        table[classes, classes] = 0
        worst = tuple(self.picture(500 + i, [RIGHT, MISSED, INVENTED, CONFUSED][: 4 - i // 2]) for i in range(4))
        counts = {RIGHT: 54, CONFUSED: 7, MISSED: 9, INVENTED: 4}
        return Findings(self.classes, tuple(map(tuple, table.tolist())), worst, 18, counts)

    def look(self, **changes: Any) -> None:
        """Write down a worker's look."""
        served = self.folder.registry.current()
        effort = Effort(41, 12, 30, 320, 64, 18, 22, 35, 0.934, 21.0, 74.0)
        standing = Standing(
            title=self.title,
            label_studio="http://127.0.0.1:8080",
            tasks=412,
            annotated=148,
            changed=7,
            missing=13,
            reason="7 of 20 new or changed annotations",
            unreadable=(),
            unreadable_count=0,
            left_out=(),
            left_out_count=0,
            effort=effort,
            version=served,
            front=(),
            done=(100,) if served else (),
            looked_at=1_800_000_000.0,
        )
        write_json(self.folder.path / "standing.json", {"format": 1, **asdict(standing), **changes})

    def trouble(self) -> dict[str, Any]:
        """What `look` takes to show that something is wrong."""
        unreadable = [asdict(Trouble(17, "the image of task 17 is gone (404); upload it again"))]
        left_out = [asdict(Trouble(23, "region x of annotation 9 is left out: its label is not one of the config"))]
        return {"unreadable": unreadable, "unreadable_count": 1, "left_out": left_out, "left_out_count": 1}

    def begin_round(self, number: int = 7, state: str = "read") -> Round:
        """A round under way."""
        begun = Round(self.folder.rounds / str(number))
        begun.state.state = state
        begun.save()
        return begun
