"""A round's weights measured on the validation images, in training and after it, and judged against the others.

Test images, which have no say in any of that, are measured on beside them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from backend.errors import DamagedTraining
from backend.project.workplace import Workplace
from backend.rounds.devices import device_of
from backend.rounds.engines import load_engine
from backend.rounds.evaluation_copies import LEFT_OUT, left_out_of_evaluation
from backend.rounds.findings import Validated, write_findings
from backend.rounds.folder import Report, Round
from backend.rounds.history import note_version
from backend.rounds.plan import read_plan
from backend.rounds.records import Loader, groups_of, records_of
from backend.rounds.scoring import LOADERS, images_at_once
from model import checkpoints
from model.engines.base import Engine
from model.engines.batching import in_halves
from model.engines.loader import build_engine
from model.errors import BadCheckpoint, BadEngine, BadVersion
from model.judging.comparison import ap_intervals
from model.judging.evaluation import EVALUATION_THRESHOLD, Detections, Truth, detections_of, evaluate, truth_of
from model.judging.gate import MIN_IMAGES, Contender, judge
from model.outlining.base import Outliner
from model.outlining.grabcut import GrabCut
from model.outlining.network import NetworkOutliner
from model.outlining.trial import iou_of_answers
from model.records import Record
from model.registry import Version, VersionFields
from model.stored_json import read_as
from model.stored_weights import add_version
from model.training.showings import read_ahead

logger = logging.getLogger(__name__)

LOOKED_AT = 40
"""Validation images that are measured while training goes on."""

BOXES, NETWORK, GRABCUT = "smart_boxes", "network", "grabcut"
"""Names in a version's metrics: of who is how good at outlining what is in a box, mean IoU."""


def measure_in_training(place: Workplace, current: Round, engine: Engine) -> Callable[[], float | None] | None:
    """What measures the engine in training, on some of the validation images; None if there are too few."""
    records, uris = records_of(place, current, "val")
    if len(records) < MIN_IMAGES:
        return None
    order = np.random.default_rng(current.state.number).permutation(len(records))
    some = [records[i] for i in order[:LOOKED_AT]]
    images, truths = Loader(place, uris), [truth_of(record, engine.classes) for record in some]

    def measure() -> float | None:
        found = []
        for batch in read_ahead(iter(some), images_at_once(engine), images.of, LOADERS):
            found += detected(engine, batch)
        return evaluate(truths, found, engine.classes).mask_ap

    return measure


def detected(engine: Engine, images: Sequence[np.ndarray]) -> list[Detections]:
    """What an engine finds in images, for AP; they are computed together as far as there is memory."""

    def found(some: Sequence[np.ndarray]) -> list[Detections]:
        decoded = (engine.decode(e, confidence_threshold=EVALUATION_THRESHOLD) for e in engine.encode(some))
        return [detections_of(instances) for instances in decoded]

    return in_halves(found, images)


def evaluate_round(place: Workplace, current: Round, report: Report) -> Version:
    """Measure the trained weights on today's images for that, ask the gate, and put the version into the registry."""
    registry, name = place.folder.registry, current.version
    version = registry.get(name) if name in registry.names() else _judged(place, current, report)
    note_version(place.folder, version)
    current.weights.unlink(missing_ok=True)
    return version


def _judged(place: Workplace, current: Round, report: Report) -> Version:
    """The version that a round has made, measured and judged, in the registry."""
    plan, seed = read_plan(current), current.state.number
    tensors = _trained(current)
    engine = build_engine(place.config.engine, plan.classes, plan.engine)
    engine.load_tensors(tensors, plan.classes)
    shown, test = (_HeldOut.of(place, current, plan.classes, split) for split in ("val", "test"))
    opponents = _opponents(place)
    tell = _teller(report, (1 + len(opponents)) * len(shown.records) + len(test.records))
    new = _look(engine.to(device_of(place)), shown, tell)
    others = _contenders(place, opponents, shown, tell)
    verdict = judge(shown.truths, new, others, seed=seed, groups=shown.groups)
    on_test = _look(engine, test, tell)
    validated = Validated(shown.tasks, shown.addresses, shown.truths, new.found)
    write_findings(place, current, plan.classes, validated, shown.images)
    snapshot = current.snapshot()
    fields = VersionFields(
        number=current.state.number,
        classes=plan.classes,
        engine=place.config.engine,
        config=asdict(plan.engine),
        metrics={
            **_measure(shown, new, seed),
            "comparisons": list(verdict.comparisons),
            **({"test": _measure(test, on_test, seed)} if test.records or test.left_out else {}),
            BOXES: _answers_to_boxes(engine, shown.records, shown.images, seed),
            "training": read_as(current.path / "training.json", dict[str, Any]),
        },
        parent=plan.parent,
        data_digest=snapshot.digest if snapshot else "",
        promoted=verdict.is_promoted,
        reason=verdict.reason,
    )
    return add_version(place.folder.registry, fields, tensors)


def _trained(current: Round) -> dict[str, torch.Tensor]:
    """The trained weights; DamagedTraining if a crash or a disk has damaged them."""
    try:
        return checkpoints.load(current.weights)[0]
    except BadCheckpoint as err:
        raise DamagedTraining(f"round {current.state.number} has to train again: {err}") from err


@dataclass(frozen=True, eq=False)
class _HeldOut:
    """The round's validation or test images: their records, addresses, objects and groups, and what loads them.

    left_out  those that do not count, see `left_out_of_evaluation`
    """

    records: Sequence[Record]
    addresses: Sequence[str]
    truths: Sequence[Truth]
    groups: Sequence[str]
    images: Loader
    left_out: dict[str, int]

    @classmethod
    def of(cls, place: Workplace, current: Round, classes: tuple[str, ...], split: str) -> _HeldOut:
        records, uris = records_of(place, current, split)
        addresses, belonging = [uris[record.image] for record in records], groups_of(current)
        truths, groups = [truth_of(r, classes) for r in records], [belonging[r.image] for r in records]
        without, tasks = left_out_of_evaluation(current), [e.task for e in current.annotated() if e.split == split]
        left_out = {str(task): without[task] for task in tasks if task in without}
        return cls(records, addresses, truths, groups, Loader(place, uris), left_out)

    @property
    def tasks(self) -> list[int]:
        return [int(record.image) for record in self.records]


def _teller(report: Report, total: int) -> Callable[[], None]:
    """What tells that one more of so many looks at images is done."""
    looks = iter(range(1, total + 1))
    return lambda: report("evaluate", next(looks) / total)


def _measure(shown: _HeldOut, new: Contender, seed: int) -> dict[str, Any]:
    """AP of a version, between which values each lies (95 %), and which images did not count."""
    truths = shown.truths
    intervals = ap_intervals(truths, new.found, len(new.classes), seed=seed, groups=shown.groups)
    per_class = dict(zip(new.classes, intervals.per_class, strict=True))
    interval = {"mask_ap": intervals.overall, "per_class": per_class}
    return {**evaluate(truths, new.found, new.classes).as_dict(), "interval": interval, LEFT_OUT: shown.left_out}


def _answers_to_boxes(engine: Engine, records: Sequence[Record], images: Loader, seed: int) -> dict[str, Any] | None:
    """How well the network and GrabCut outline what is in a box; None where there are too few objects to tell."""
    grabcut = GrabCut()
    outliners: dict[str, Outliner] = {NETWORK: NetworkOutliner(engine, otherwise=grabcut), GRABCUT: grabcut}
    return iou_of_answers(outliners, records, images.of, seed)


def _look(engine: Engine, shown: _HeldOut, tell: Callable[[], None]) -> Contender:
    """What an engine finds in held-out images."""
    found = []
    for [image] in read_ahead(iter(shown.records), 1, shown.images.of, LOADERS):
        found.append(detections_of(engine.predict(image, confidence_threshold=EVALUATION_THRESHOLD)))
        tell()
    return Contender(engine.classes, found)


def _opponents(place: Workplace) -> tuple[str, ...]:
    """The served version and the best promoted one, by the mask AP that each had on its day."""
    registry = place.folder.registry
    best = registry.best()
    names = (registry.current(), best.name if best else None)
    return tuple(dict.fromkeys(name for name in names if name is not None))


def _contenders(
    place: Workplace, names: Sequence[str], shown: _HeldOut, tell: Callable[[], None]
) -> dict[str, Contender]:
    """What the new version is compared with; one that is not served is left out where it cannot be loaded."""
    found = {}
    for name in names:
        try:
            found[name] = _look(load_engine(place, name), shown, tell)
        except (BadCheckpoint, BadEngine, BadVersion) as err:
            if name == place.folder.registry.current():
                raise
            logger.warning("project %s: the new version is not compared with %s: %s", place.folder.uid, name, err)
    return found
