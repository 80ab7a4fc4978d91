"""Mask AP on real photos: a round's training from nothing, and torchvision's reference recipe in the same time.

    python -m tests.benchmarks.quality --images photos/ --annotations annotations.json --json quality.json
    python -m tests.benchmarks.quality ... --network lite --images-to-learn 30 --draw 2 --ours-only --set freeze_at=2

The photos are split 70/15/15 by class. Ours trains as a first round does, with what the preset chooses from the data
and the settings that are given; of fewer photos to learn from a share by class is drawn, and as many to validate on as
a project would have. The reference is the recipe of torchvision's detection references on the same network, from
random weights, in as many seconds (those of ours include what it does to get a start): float32, mirrored images, SGD
with momentum, 0.0025 for each two images, a warm-up over the first epoch and steps after 16 and 22 of 26 parts of the
time. Both are measured on the test images; the interval is that of 95 % of 1,000 draws of these (bootstrap). Each run
is a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from backend.project.config import ProjectConfig, check_config
from backend.rounds.starts import keeping_of, load_start
from backend.simulation.splits import strata, stratified_split
from model.engines.base import EngineConfig, InputRange
from model.engines.torchvision.engine import TorchvisionEngine
from model.engines.torchvision.networks import with_facts
from model.files import write_json
from model.formats import coco
from model.instances import Instances
from model.judging.comparison import ap_difference
from model.judging.evaluation import EVALUATION_THRESHOLD, Detections, Truth, detections_of, evaluate, truth_of
from model.judging.gate import MIN_IMAGES
from model.records import Record
from model.training.loop import train
from tests.benchmarks.scoring import device_name
from tests.benchmarks.torchvision_loop import BATCH, endless, plain_loader, plain_step, read

SHARE = 0.15
VAL_SHARE = 0.15
"""Of a project's tasks that validate."""

LOOKED_AT = 40
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
    parser.add_argument("--images-to-learn", type=int, help="so many of the photos to learn from  [default: all]")
    parser.add_argument("--draw", type=int, default=0, help="seed of which ones")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of a project's")
    parser.add_argument("--train", action="append", default=[], metavar="NAME=VALUE", help="a field of TrainingConfig")
    parser.add_argument("--fact", action="append", default=[], metavar="NAME=VALUE", help="of a network on timm's")
    parser.add_argument("--input-scale", type=float, default=1.0, help="times the network's usual input")
    parser.add_argument("--starts", type=Path, help="keeps starts on generated images from run to run; not in seconds")
    parser.add_argument("--repeat", action="store_true", help="train ours twice with each seed")
    parser.add_argument("--ours-only", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    data = Data(options.images, options.annotations, options.split_seed)
    if options.images_to_learn is not None:
        data.limit(options.images_to_learn, options.draw)
    recipe = Recipe.of(options)
    runs = []
    for seed in range(options.seeds):
        run: dict[str, Any] = {"seed": seed, "split_seed": options.split_seed, **data.counts(), **recipe.changes()}
        for again in range(1 + options.repeat):
            engine, facts = train_ours(data, recipe, options.device, seed)
            run["ours, again" if again else "ours"] = {**facts, **figures(data, engine)}
        if not options.ours_only:
            engine, facts = train_by_reference(data, recipe.settings, options.device, seed, run["ours"]["seconds"])
            run["reference"] = {**facts, **figures(data, engine)}
        runs.append(run)
        print(json.dumps(run), flush=True)
    report = {
        "runs": runs,
        "images": data.counts(),
        "network": engine.config.network,
        "split_seed": options.split_seed,
        "draw": options.draw,
        "device": device_name(engine),
        "threads": torch.get_num_threads(),
    }
    if options.json is not None:
        write_json(options.json, report)


@dataclass(frozen=True)
class Recipe:
    """How ours is trained: a project's settings, and what they cannot say.

    training     fields of TrainingConfig; facts: of a network on a backbone of timm's
    input_scale  times the network's usual input
    starts       folder that keeps what is trained on generated images; None: it is made anew
    """

    settings: ProjectConfig
    training: dict[str, Any]
    facts: dict[str, Any]
    input_scale: float
    starts: Path | None

    @classmethod
    def of(cls, options: argparse.Namespace) -> Recipe:
        given = {
            "network_config": options.network,
            "train_iterations_base": options.iterations,
            "pretrained_weights": options.weights,
        }
        settings = {name: value for name, value in given.items() if value is not None} | pairs(options.set)
        training, facts = pairs(options.train), pairs(options.fact)
        return cls(check_config(settings, "--set"), training, facts, options.input_scale, options.starts)

    def changes(self) -> dict[str, Any]:
        """What is not as a project would have it."""
        said = {"settings": self.settings.model_dump(exclude_unset=True), "train": self.training, "facts": self.facts}
        return {name: value for name, value in said.items() if value} | {"input_scale": self.input_scale}

    def engine_config(self, device: str) -> EngineConfig:
        config = with_facts(self.settings.engine_config(device))
        return replace(config, network_facts={**(config.network_facts or {}), **self.facts}) if self.facts else config

    def input_range(self, usual: InputRange) -> InputRange:
        shortest, longest = (2 * round(self.input_scale * side / 2) for side in (usual.shortest, usual.longest))
        largest, visible = round(self.input_scale * usual.largest), self.input_scale * usual.visible
        return replace(usual, shortest=shortest, longest=longest, largest=largest, visible=visible)


def pairs(texts: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE, the value as YAML has it."""
    return {name: yaml.safe_load(value) for name, _, value in (text.partition("=") for text in texts)}


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

    def limit(self, images: int, seed: int) -> None:
        """Learn from so many photos, and validate on those that a project would set apart beside them."""
        self.train = stratified_draw(self.train, images, seed)
        self.val = stratified_draw(self.val, round(images * VAL_SHARE / (1 - VAL_SHARE)), seed)

    def counts(self) -> dict[str, int]:
        return {"train": len(self.train), "val": len(self.val), "test": len(self.test)}

    def image(self, name: str) -> np.ndarray:
        return read(self.folder / name)

    def found(self, engine: TorchvisionEngine, records: Sequence[Record]) -> list[Detections]:
        images = (self.image(record.image) for record in records)
        return [detections_of(engine.predict(i, confidence_threshold=EVALUATION_THRESHOLD)) for i in images]

    def truths(self, records: Sequence[Record]) -> list[Truth]:
        return [truth_of(record, self.classes) for record in records]


def stratified_draw(records: Sequence[Record], images: int, seed: int) -> list[Record]:
    """So many records, of each class about the same share; more of them with the same seed hold these, too."""
    rng = np.random.default_rng(seed)
    places: dict[int, float] = {}
    for members in strata(records):
        shares = (rng.permutation(len(members)) + rng.random()) / len(members)
        places |= dict(zip(members, shares.tolist(), strict=True))
    return [records[index] for index in sorted(places, key=places.__getitem__)[:images]]


def figures(data: Data, engine: TorchvisionEngine) -> dict[str, Any]:
    """Mask AP on the test images with the interval of its draws, and what else tells how good they are."""
    truths, found = data.truths(data.test), data.found(engine, data.test)
    result = evaluate(truths, found, data.classes)
    nothing = [detections_of(Instances.none(truth.size_hw, len(data.classes))) for truth in truths]
    drawn = ap_difference(truths, nothing, found, len(data.classes), seed=0, confidence=0.975)
    wanted = ("mask_ap", "box_ap", "mask_ap50", "mask_ap_any_class", "mask_ap50_any_class")
    return {
        **{name: round(value, 4) for name, value in result.as_dict().items() if name in wanted},
        "interval": [round(drawn.lower, 3), round(drawn.upper, 3)] if drawn else None,
        "per_class": {name: round(facts["mask_ap"] or 0.0, 3) for name, facts in result.per_class.items()},
    }


def train_ours(data: Data, recipe: Recipe, device: str, seed: int) -> tuple[TorchvisionEngine, dict[str, Any]]:
    """Train as a project's first round does; the seconds are those of its start, made anew, and of the training."""
    torch.manual_seed(seed)
    settings, usual = recipe.settings, recipe.engine_config(device)
    known = TorchvisionEngine(data.classes, usual).input_range
    config = settings.adapted(usual, recipe.input_range(known) if known else None, data.train)
    torch.manual_seed(seed)
    engine = TorchvisionEngine(data.classes, config)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        load_start(engine, settings.pretrained_weights, recipe.starts or Path(folder), device)
    start_s = time.monotonic() - started
    engine.to(device)
    keeping = keeping_of(engine, settings.pretrained_weights)
    training = settings.training_config(
        usual.network, data.train, warm=False, seed=seed, device=device, keeping=keeping
    )
    training = replace(training, **recipe.training)
    trained = train(engine, data.train, data.image, training, validate=validation(data, engine))
    facts = {
        "network": engine.config.network,
        "seconds": round(start_s + trained.seconds, 1),
        "start_s": round(start_s, 1),
        "s_a_step": round(trained.seconds / trained.steps, 3),
        "steps": trained.steps,
        "of": training.iterations,
        "freeze_at": training.freeze_at,
        "backbone_rate": training.backbone_rate,
        "val": {step: round(ap, 3) for step, ap in trained.evaluations},
    }
    return engine, {**facts, "size": engine.training_size_hw}


def validation(data: Data, engine: TorchvisionEngine) -> Callable[[], float | None] | None:
    """What measures the engine in training, as a round does it; None where a round has too few images."""
    some = data.val[:LOOKED_AT]
    if len(data.val) < MIN_IMAGES:
        return None
    return lambda: evaluate(data.truths(some), data.found(engine, some), data.classes).mask_ap


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
