"""Mask AP on real photos: a round's training from nothing, and torchvision's reference recipe in the same time.

    python -m tests.benchmarks.quality --images photos/ --annotations annotations.json --json quality.json

The photos are split 70/15/15 by class. Ours trains as a first round does, with what the preset chooses from the data.
The reference is the recipe of torchvision's detection references on the same network, from random weights, in as many
seconds (those of ours include what it does to get a start): float32, mirrored images, SGD with momentum, 0.0025 for
each two images, a warm-up over the first epoch and steps after 16 and 22 of 26 parts of the time. Both are measured on
the test images.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backend.project.config import ProjectConfig
from backend.rounds.starts import load_start
from backend.simulation.run import stratified_split
from model.engines.torchvision.engine import TorchvisionEngine
from model.files import write_json
from model.formats import coco
from model.judging.evaluation import Evaluation, detections_of, evaluate, truth_of
from model.records import Record
from model.training.loop import train
from tests.benchmarks.scoring import device_name
from tests.benchmarks.torchvision_loop import BATCH, endless, plain_loader, plain_step, read

SHARE = 0.15
LOOKED_AT = 40
EVALUATION_THRESHOLD = 0.05
RATE = 0.02 / 16 * BATCH
"""torchvision's references train with 0.02 on 8 GPUs of 2 images each."""

STEPS_AT = (16 / 26, 22 / 26)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--network", help="[default: what a project gets on the device]")
    parser.add_argument("--weights", help="what ours starts from, as in pretrained_weights  [default: a project's]")
    parser.add_argument("--iterations", type=int, help="of ours  [default: what the preset chooses]")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--split-seed", type=int, default=0, help="of the split of the photos")
    parser.add_argument("--repeat", action="store_true", help="train ours twice with each seed")
    parser.add_argument("--ours-only", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    data = Data(options.images, options.annotations, options.split_seed)
    settings = ProjectConfig(network_config=options.network, train_iterations_base=options.iterations)
    runs = []
    for seed in range(options.seeds):
        run: dict[str, Any] = {"seed": seed}
        for again in range(1 + options.repeat):
            engine, facts = train_ours(data, settings, options.device, options.weights, seed)
            run["ours, again" if again else "ours"] = {**facts, **figures(data.evaluated(engine, data.test))}
        if not options.ours_only:
            engine, facts = train_by_reference(data, settings, options.device, seed, run["ours"]["seconds"])
            run["reference"] = {**facts, **figures(data.evaluated(engine, data.test))}
        runs.append(run)
        print(json.dumps(run), flush=True)
    report = {
        "runs": runs,
        "images": {"train": len(data.train), "val": len(data.val), "test": len(data.test)},
        "network": engine.config.network,
        "split_seed": options.split_seed,
        "device": device_name(engine),
        "threads": torch.get_num_threads(),
    }
    if options.json is not None:
        write_json(options.json, report)


class Data:
    """Annotated photos in three parts."""

    def __init__(self, folder: Path, annotations: Path, split_seed: int) -> None:
        self.folder = folder
        self.classes = coco.class_names(annotations)
        records = coco.read(annotations)
        rest, test = stratified_split(records, SHARE, split_seed)
        learned, val = stratified_split([records[i] for i in rest], SHARE / (1 - SHARE), split_seed)
        self.test = [records[i] for i in test]
        self.train, self.val = [records[rest[i]] for i in learned], [records[rest[i]] for i in val]

    def image(self, name: str) -> np.ndarray:
        return read(self.folder / name)

    def evaluated(self, engine: TorchvisionEngine, records: Sequence[Record]) -> Evaluation:
        found = [
            detections_of(engine.predict(self.image(r.image), confidence_threshold=EVALUATION_THRESHOLD))
            for r in records
        ]
        return evaluate([truth_of(r, self.classes) for r in records], found, self.classes)


def figures(result: Evaluation) -> dict[str, Any]:
    wanted = ("mask_ap", "box_ap", "mask_ap50", "mask_ap50_any_class")
    return {name: value for name, value in result.as_dict().items() if name in wanted}


def train_ours(
    data: Data, settings: ProjectConfig, device: str, weights: str | None, seed: int
) -> tuple[TorchvisionEngine, dict[str, Any]]:
    """Train as a project's first round does; the seconds are those of its start, made anew, and of the training."""
    torch.manual_seed(seed)
    usual = settings.engine_config(device)
    known = TorchvisionEngine(data.classes, usual).input_range
    torch.manual_seed(seed)
    engine = TorchvisionEngine(data.classes, settings.adapted(usual, known, data.train))
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        load_start(engine, weights, Path(folder), device)
    start_s = time.monotonic() - started
    engine.to(device)
    config = settings.training_config(usual.network, data.train, warm=False, seed=seed, device=device)
    some = data.val[:LOOKED_AT]
    trained = train(engine, data.train, data.image, config, validate=lambda: data.evaluated(engine, some).mask_ap)
    looks = {step: round(ap, 3) for step, ap in trained.evaluations}
    facts = {
        "seconds": round(start_s + trained.seconds, 1),
        "start_s": round(start_s, 1),
        "steps": trained.steps,
        "of": config.iterations,
        "val": looks,
    }
    return engine, {**facts, "size": engine.training_size_hw}


def train_by_reference(
    data: Data, settings: ProjectConfig, device: str, seed: int, seconds: float
) -> tuple[TorchvisionEngine, dict[str, Any]]:
    """Train by torchvision's recipe for that many seconds, which ours needed with all it does."""
    torch.manual_seed(seed)
    engine = TorchvisionEngine(data.classes, settings.engine_config(device))
    model = engine.to(device).network.train()
    torch.backends.cudnn.allow_tf32 = True  # as torch has it, where our engine turns it off
    loader = plain_loader(data.train, data.folder, data.classes, engine.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9, weight_decay=1e-4)
    warm_up, started = min(1000, len(loader) - 1), time.monotonic()
    for step, (images, targets) in enumerate(endless(loader)):
        share = (time.monotonic() - started) / seconds
        if share >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / warm_up) * 0.1 ** sum(share >= at for at in STEPS_AT)
        plain_step(model, optimizer, images, targets)
    engine.network.eval()
    return engine, {"seconds": round(time.monotonic() - started, 1), "steps": step}


if __name__ == "__main__":
    main()
