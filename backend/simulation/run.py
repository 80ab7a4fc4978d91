"""`maskal simulate`: strategies compared on annotated images, from the same initial images and the same first model."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from backend.errors import BadSetting
from backend.project.config import ProjectConfig, read_config
from backend.settings import Settings
from backend.simulation.network_judge import NetworkJudge, World
from backend.simulation.report import Row, write_report
from backend.simulation.splits import stratified_split
from model.files import read_json, write_json
from model.formats import coco
from model.record_images import RecordImages, fully_read
from model.records import Record
from sampling.simulate import Plan, Step, simulate
from sampling.strategies import STRATEGIES

SECONDS_PER_OBJECT = 79.0
"""Time to outline an object by hand (Lin et al. 2014: 22 hours of work for 1,000 outlines)."""

SECONDS_PER_CLASS = 1.0
"""Time to see whether an image shows a class (Bearman et al. 2016)."""


@dataclass(frozen=True)
class SimulationOptions:
    """The options of `maskal simulate`; None leaves the choice to the project's settings.

    jobs    seeds that are played side by side
    """

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
    jobs: int = 1
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
    records = _records(options)
    images = RecordImages(options.images, options.max_image_megapixels)
    images.check(tqdm(records, desc="looking at the images", unit="image"))
    options.out.mkdir(parents=True, exist_ok=True)
    _check_settings(options, config, len(records))
    rows = []
    with tqdm(total=options.seeds * len(options.strategies) * (options.loops + 1), unit="loop") as bar:
        for row in _played(options):
            rows.append(row)
            bar.set_description(f"{row.strategy} seed {row.seed}: {row.images} images, mask AP {row.mask_ap:.3f}")
            bar.update()
    places = {name: place for place, name in enumerate(options.strategies)}
    return write_report(options.out, sorted(rows, key=lambda row: (row.seed, places[row.strategy], row.loop)))


def _played(options: SimulationOptions) -> Iterator[Row]:
    """All rows as they come: seed by seed, or of several seeds side by side, each in a process of its own."""
    seeds = range(1, options.seeds + 1)
    if options.jobs == 1:
        for seed in seeds:
            yield from _play_seed(options, seed)
        return
    threads = max(1, (os.cpu_count() or 1) // options.jobs)
    context = get_context("spawn")  # a fork of a process that has computed may hang
    with ProcessPoolExecutor(options.jobs, context, torch.set_num_threads, (threads,)) as pool:
        playing = [pool.submit(_seed_rows, options, seed) for seed in seeds]
        try:
            for done in as_completed(playing):
                yield from done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _seed_rows(options: SimulationOptions, seed: int) -> list[Row]:
    return list(_play_seed(options, seed))


def _play_seed(options: SimulationOptions, seed: int) -> Iterator[Row]:
    """The rows of all strategies with one seed, which share the split, the first images and the first model."""
    config, records = _config(options), _records(options)
    world = World(
        records,
        RecordImages(options.images, options.max_image_megapixels),
        coco.class_names(options.annotations),
        config,
        stratified_split(records, options.test_share, seed),
        _device(options, config),
        options.out / "runs" / "starts",
    )
    for strategy in options.strategies:
        yield from _play(options, world, strategy, seed)


def _records(options: SimulationOptions) -> tuple[Record, ...]:
    return tuple(fully_read(coco.read(options.annotations, images=options.images))[: options.limit])


def _play(options: SimulationOptions, world: World, strategy: str, seed: int) -> Iterator[Row]:
    """One run's rows, those of an earlier start first; what it takes to go on is kept in `runs/`."""
    shared = options.out / "runs" / f"seed_{seed}"
    own = shared / strategy
    own.mkdir(parents=True, exist_ok=True)
    learner = NetworkJudge(world, lambda loop: (own if loop else shared) / f"loop_{loop}.safetensors", seed)
    rng = np.random.default_rng(seed)
    ranking = replace(world.config.ranking_config(), strategy=strategy, rounds=max(1, options.loops))
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


def _row(world: World, learner: NetworkJudge, strategy: str, seed: int, step: Step, seconds: float) -> Row:
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
