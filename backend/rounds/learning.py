"""The learning half of a round: training an engine on what was annotated."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict

import torch

from backend.project.workplace import Workplace
from backend.rounds.devices import device_in_words, device_of
from backend.rounds.folder import Report, Round
from backend.rounds.judging import measure_in_training
from backend.rounds.plan import Plan, plan_round
from backend.rounds.records import Loader, records_of
from backend.rounds.starts import load_start
from model import checkpoints
from model.engines.base import Engine
from model.engines.loader import build_engine
from model.files import write_json
from model.records import Record
from model.stored_weights import load_weights
from model.training.loop import Progress, place_in_group, train

logger = logging.getLogger(__name__)


def train_round(place: Workplace, current: Round, report: Report) -> None:
    """Fine-tune from the served version, or from pretrained weights, and leave the weights in the round's folder.

    A round that was killed meanwhile goes on from its last checkpoint, with what was decided when it began. In a
    group of processes each computes its part, on its own GPU if it is GPUs, and the first one writes.
    """
    rank, processes = place_in_group()
    records, uris = records_of(place, current, "train")
    plan = plan_round(place, current, records)
    torch.manual_seed(plan.training.seed)  # for what begins with random weights
    engine = build_engine(place.config.engine, plan.classes, plan.engine)
    device = device_of(place)
    device = f"{device}:{rank}" if processes > 1 and device == "cuda" else device
    _load_initial(place, engine, plan, device, report)
    engine.to(device)
    logger.info("round %d: %s", current.state.number, plan.in_words(len(records)))
    logger.info("round %d computes on %s", current.state.number, device_in_words(place.config.device))
    trained = train(
        engine,
        records,
        Loader(place, uris),
        plan.training,
        _teller(current, report),
        validate=measure_in_training(place, current, engine),
        checkpoint=current.checkpoint,
        new_images=plan.new_images,
    )
    if rank > 0:
        return
    facts = {**asdict(plan.training), **asdict(trained), "images": len(records), "objects": _objects(records)}
    facts |= {"note": plan.note} if plan.note else {}
    write_json(current.path / "training.json", facts)
    checkpoints.save(current.weights, engine.tensors(), {})
    current.checkpoint.unlink(missing_ok=True)


def _load_initial(place: Workplace, engine: Engine, plan: Plan, device: str, report: Report) -> None:
    if plan.parent is not None:
        registry = place.folder.registry
        engine.load_tensors(load_weights(registry, plan.parent)[0], registry.get(plan.parent).classes)
        return
    tell = lambda progress: report("prepare", progress.step / progress.steps)  # noqa: E731
    load_start(engine, place.config.pretrained_weights, place.folder.data_dir / "cache" / "starts", device, tell)


def _teller(current: Round, report: Report) -> Callable[[Progress], None]:
    """What tells the job, and about ten times the log, how training goes."""

    def tell(progress: Progress) -> None:
        report(
            "train",
            progress.step / progress.steps,
            seconds_left=round(progress.seconds_left),
            loss=round(progress.loss, 4),
            losses={name: round(value, 4) for name, value in progress.losses.items()},
            mask_ap=progress.mask_ap,
        )
        if progress.step % max(1, progress.steps // 10) == 0:
            logger.info(
                "round %d: step %d of %d, loss %.3f, mask AP %s, %.2f s a step, %.0f s left",
                current.state.number,
                progress.step,
                progress.steps,
                progress.loss,
                "not measured" if progress.mask_ap is None else f"{progress.mask_ap:.3f}",
                progress.seconds_per_step,
                progress.seconds_left,
            )

    return tell


def _objects(records: Sequence[Record]) -> dict[str, int]:
    """Annotated objects of each class."""
    return dict(sorted(Counter(outline.label for record in records for outline in record.outlines).items()))
