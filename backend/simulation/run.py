"""`maskal simulate`: strategies compared on annotated images, from the same initial images and the same first model."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from backend.errors import BadSetting
from backend.project.config import ProjectConfig, read_config
from backend.rounds.starts import keeping_of, load_start
from backend.settings import Settings
from backend.simulation.report import Row, write_report
from model import checkpoints
from model.engines.base import Engine, EngineConfig
from model.engines.loader import build_engine
from model.files import read_json, write_json
from model.formats import coco
from model.judging.evaluation import Evaluation, detections_of, evaluate, truth_of
from model.record_images import RecordImages, fully_read
from model.records import Record
from model.training.loop import train
from sampling.mc_dropout import score
from sampling.ranking import Candidate
from sampling.simulate import Plan, Step, simulate
from sampling.strategies import STRATEGIES

EVALUATION_THRESHOLD = 0.05
SCORED_AT_ONCE = 8
SECONDS_PER_OBJECT = 79.0
"""Time to outline an object by hand (Lin et al. 2014: 22 hours of work for 1,000 outlines)."""

SECONDS_PER_CLASS = 1.0
"""Time to see whether an image shows a class (Bearman et al. 2016)."""


@dataclass(frozen=True)
class SimulationOptions:
    """The options of `maskal simulate`; None leaves the choice to the project's settings."""

    images: Path
    annotations: Path
    out: Path
    strategies: tuple[str, ...]
    seeds: int = 3
    initial: int | None = None
    pool_size: int | None = None
    loops: int = 6
    test_share: float = 0.3
    limit: int | None = None
    config: Path | None = None
    device: str | None = None
    max_image_megapixels: float = Settings.max_image_megapixels

    def __post_init__(self) -> None:
        unknown = [name for name in self.strategies if name not in STRATEGIES]
        if unknown or not self.strategies:
            raise BadSetting(f"strategies must be some of {', '.join(STRATEGIES)}, got {', '.join(unknown) or 'none'}")


def run(options: SimulationOptions) -> Path:
    """Play what is not yet played, write curves.csv, curves.png and summary.json, and return the summary's path.

    Goes on where an earlier run into the same folder stopped; more strategies, seeds or loops may be asked for then.
    Raises BadRecord before anything is trained that names the images which are missing, broken or of another size.
    """
    config = _config(options)
    records = tuple(fully_read(coco.read(options.annotations, images=options.images))[: options.limit])
    images = RecordImages(options.images, options.max_image_megapixels)
    images.check(tqdm(records, desc="looking at the images", unit="image"))
    classes = coco.class_names(options.annotations)
    options.out.mkdir(parents=True, exist_ok=True)
    _check_settings(options, config, len(records))
    order = [(seed, strategy) for seed in range(1, options.seeds + 1) for strategy in options.strategies]
    rows: list[Row] = []
    starts = options.out / "runs" / "starts"
    with tqdm(total=len(order) * (options.loops + 1), unit="loop") as bar:
        for seed, strategy in order:
            split = stratified_split(records, options.test_share, seed)
            world = _World(records, images, classes, config, split, _device(options, config), starts)
            for row in _play(options, world, strategy, seed):
                rows.append(row)
                bar.set_description(f"{strategy} seed {seed}: {row.images} images, mask AP {row.mask_ap:.3f}")
                bar.update()
    return write_report(options.out, rows)


def strata(records: Sequence[Record]) -> list[list[int]]:
    """Indices by class, an image counting for its rarest one."""
    counts = Counter(label for record in records for label in {o.label for o in record.outlines})
    found: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        labels = {o.label for o in record.outlines}
        found.setdefault(min(labels, key=lambda label: (counts[label], label), default=""), []).append(index)
    return [members for _, members in sorted(found.items())]


def stratified_split(records: Sequence[Record], test_share: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices to learn from and to test on: of each class the same share, an image counting for its rarest one."""
    rng = np.random.default_rng(seed)
    shuffled = [[members[i] for i in rng.permutation(len(members))] for members in strata(records)]
    test = {index for members in shuffled for index in members[: round(test_share * len(members))]}
    return [index for index in range(len(records)) if index not in test], sorted(test)


@dataclass(frozen=True, eq=False)
class _World:
    """What all runs of a seed share: images, truth, and the split into images to learn from and to test on."""

    records: tuple[Record, ...]
    images: RecordImages
    classes: tuple[str, ...]
    config: ProjectConfig
    split: tuple[list[int], list[int]]
    device: str
    starts: Path

    def engine_config(self) -> EngineConfig:
        """One for all runs, with the input that fits the objects."""
        usual = self.config.engine_config(self.device)
        engine = build_engine(self.config.engine, self.classes, usual)
        return self.config.adapted(engine.config, engine.input_range, self.records)

    @cached_property
    def by_name(self) -> Mapping[str, Record]:
        """The records by the names of their images."""
        return {record.image: record for record in self.records}

    def image(self, name: str) -> np.ndarray:
        """An image as RGB uint8 (h, w, 3); BadImageFile if it has changed since all were looked at."""
        return self.images.load(self.by_name[name])


class CocoLearner:
    """Learns by training an engine on the records; keeps the weights of its last lesson in a file."""

    def __init__(self, world: _World, weights: Callable[[int], Path], seed: int) -> None:
        self.world, self.weights, self.seed = world, weights, seed
        self.engine: Engine = build_engine(world.config.engine, world.classes, world.engine_config())
        self.evaluation: Evaluation | None = None

    def learn(self, images: Sequence[int], loop: int) -> float:
        """Train on these images, from the last weights or from the pretrained ones, and return the mask AP."""
        path = self.weights(loop)
        if path.exists():
            self.recall(loop)
        else:
            self._train(images, loop)
            checkpoints.save(path, self.engine.tensors(), {})
        self.evaluation = self._evaluate()
        return self.evaluation.mask_ap or 0.0

    def recall(self, loop: int) -> None:
        """Be as after a loop that was played before."""
        self._load(checkpoints.load(self.weights(loop))[0])

    def candidates(self, images: Sequence[int]) -> Iterator[Candidate]:
        """The images scored as the worker scores them."""
        config = self.world.config.scoring_config()
        for start in range(0, len(images), SCORED_AT_ONCE):
            some = images[start : start + SCORED_AT_ONCE]
            pixels = [self.world.image(self.world.records[i].image) for i in some]
            for index, encoded in zip(some, self.engine.encode(pixels, exact=config.exact), strict=True):
                generator = torch.Generator(self.world.device).manual_seed(1000 * self.seed + index)
                found = score(self.engine, encoded, config, generator)
                embedding = self.engine.embedding(encoded)
                yield Candidate(index, found.certainty, False, tuple(found.class_counts), tuple(embedding))

    def _train(self, images: Sequence[int], loop: int) -> None:
        is_warm = loop > 0 and self.world.config.warm_start
        if not is_warm:
            torch.manual_seed(self.seed)
            fresh = build_engine(self.engine.name, self.world.classes, self.engine.config)
            self._load(fresh.tensors())
            load_start(self.engine, self.world.config.pretrained_weights, self.world.starts, self.world.device)
        records = [self.world.records[index] for index in images]
        config = self.world.config.training_config(
            self.engine.config.network,
            records,
            warm=is_warm,
            seed=100 * self.seed + loop,
            device=self.world.device,
            keeping=keeping_of(self.engine, self.world.config.pretrained_weights),
        )
        train(self.engine.to(self.world.device), records, self.world.image, config)

    def _load(self, tensors: dict[str, torch.Tensor]) -> None:
        self.engine.load_tensors(tensors, self.world.classes)
        self.engine.to(self.world.device)

    def _evaluate(self) -> Evaluation:
        records = [self.world.records[index] for index in self.world.split[1]]
        found = [
            detections_of(self.engine.predict(self.world.image(r.image), confidence_threshold=EVALUATION_THRESHOLD))
            for r in records
        ]
        return evaluate([truth_of(r, self.world.classes) for r in records], found, self.world.classes)


def _play(options: SimulationOptions, world: _World, strategy: str, seed: int) -> Iterator[Row]:
    """One run's rows, those of an earlier start first; what it takes to go on is kept in `runs/`."""
    shared = options.out / "runs" / f"seed_{seed}"
    own = shared / strategy
    own.mkdir(parents=True, exist_ok=True)
    learner = CocoLearner(world, lambda loop: (own if loop else shared) / f"loop_{loop}.safetensors", seed)
    rng = np.random.default_rng(seed)
    ranking = replace(world.config.ranking_config(), strategy=strategy)
    initial = tuple(sorted(rng.permutation(world.split[0])[: world.config.initial_datasize].tolist()))
    try:
        plan = Plan(tuple(world.split[0]), initial, options.loops, ranking, seed)
    except ValueError as err:
        raise BadSetting(f"{err}; choose fewer --loops, a smaller --pool-size or a smaller --test-share") from err
    path = own / "steps.jsonl"
    rows = [Row(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []
    rows = [row for row in rows if row.loop <= options.loops]
    yield from rows
    if rows and rows[-1].loop < options.loops:
        learner.recall(rows[-1].loop)
    done = [Step(row.loop, row.chosen, row.mask_ap) for row in rows]
    started = time.monotonic()
    for step in simulate(learner, plan, done):
        row = _row(world, learner, strategy, seed, step, time.monotonic() - started)
        with path.open("a") as file:
            file.write(json.dumps(asdict(row)) + "\n")
        if step.loop > 1:
            learner.weights(step.loop - 1).unlink(missing_ok=True)
        yield row
        started = time.monotonic()


def _row(world: _World, learner: CocoLearner, strategy: str, seed: int, step: Step, seconds: float) -> Row:
    objects = sum(len(world.records[index].outlines) for index in step.images)
    evaluation = learner.evaluation
    return Row(
        strategy=strategy,
        seed=seed,
        loop=step.loop,
        images=len(step.images),
        objects=objects,
        annotation_seconds=objects * SECONDS_PER_OBJECT + len(step.images) * len(world.classes) * SECONDS_PER_CLASS,
        mask_ap=step.value,
        mask_ap50=(evaluation.mask_ap50 if evaluation else None) or 0.0,
        seconds=round(seconds, 1),
        chosen=step.images,
    )


def _config(options: SimulationOptions) -> ProjectConfig:
    config = read_config(options.config) if options.config else ProjectConfig()
    changes = {"initial_datasize": options.initial, "pool_size": options.pool_size}
    return config.model_copy(update={name: value for name, value in changes.items() if value is not None})


def _device(options: SimulationOptions, config: ProjectConfig) -> str:
    return options.device or config.device or ("cuda" if torch.cuda.is_available() else "cpu")


def _check_settings(options: SimulationOptions, config: ProjectConfig, records: int) -> None:
    """Refuse to mix runs of different settings in one folder."""
    settings: dict[str, Any] = {
        "annotations": options.annotations.name,
        "records": records,
        "test_share": options.test_share,
        "config": config.model_dump(exclude={"strategy", "device"}),
    }
    path = options.out / "settings.json"
    if not path.exists():
        write_json(path, settings)
    elif (known := read_json(path)) != settings:
        differing = sorted(key for key in settings if known.get(key) != settings[key])
        raise BadSetting(
            f"{options.out} holds a simulation with other settings ({', '.join(differing)}); choose another --out"
        )
