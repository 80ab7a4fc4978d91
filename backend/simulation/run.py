"""`maskal simulate`: strategies compared on annotated images, from the same initial images and the same first model."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import torch
from tqdm import tqdm

from backend.errors import BadSetting
from backend.simulation.object_features import features_of
from backend.simulation.options import RANDOM, SimulationOptions, check_settings
from backend.simulation.playing import Seed, play, runs_folder
from backend.simulation.report import Row, write_report
from backend.simulation.twins import twins_of
from backend.simulation.world import World, build_world
from backend.system.folder_lock import alone_in


def run(options: SimulationOptions) -> Path:
    """Play what is not yet played, write curves.csv, curves.png and summary.json, and return the summary's path.

    Goes on where an earlier run into the same folder stopped; more strategies, seeds or loops may be asked for then.
    Raises BadSetting for more loops than there are images for, or nothing to test on, and BadRecord that names the
    images which are missing, broken or of another size, all before anything is trained; ProcessFailed where another
    process plays into the folder.
    """
    world = build_world(options)
    seeds = [Seed(options, world, number) for number in options.seed_numbers]
    for seed in seeds:
        seed.plan(RANDOM)  # what is asked for fits, or is refused before anything is kept
    world.images.check(tqdm(world.photos, desc="looking at the images", unit="image"))
    options.out.mkdir(parents=True, exist_ok=True)
    with alone_in(options.out, f"another simulation runs in {options.out}; wait for it, or choose another --out"):
        return _run(options, world, seeds)


def _run(options: SimulationOptions, world: World, seeds: Sequence[Seed]) -> Path:
    check_settings(options, world.photos)
    if options.judge == "linear":
        features_of(world, runs_folder(options))  # once, and not in each of the processes
    if options.moves_near_copies or any(map(options.puts_copies_last, options.strategies)):
        twins_of(world, options, runs_folder(options))
    if not all(seed.judged.test for seed in seeds):
        raise BadSetting(
            "all images to test on are near copies of images to learn from; keep one of each burst, or choose "
            "--near-copies keep"
        )
    rows = []
    with tqdm(total=options.seeds * len(options.strategies) * (options.loops + 1), unit="loop") as bar:
        for row in _played(options):
            rows.append(row)
            bar.set_description(f"{row.strategy} seed {row.seed}: {row.images} images, {row.measure} {row.value:.3f}")
            bar.update()
    places = {name: place for place, name in enumerate(options.strategies)}
    return write_report(options.out, sorted(rows, key=lambda row: (row.seed, places[row.strategy], row.loop)))


def _played(options: SimulationOptions) -> Iterator[Row]:
    """All rows as they come: seed by seed, or of several seeds side by side, each in a process of its own."""
    if options.jobs == 1:
        for seed in options.seed_numbers:
            yield from _play_seed(options, seed)
        return
    threads = max(1, (os.cpu_count() or 1) // options.jobs)
    context = get_context("spawn")  # a fork of a process that has computed may hang
    with ProcessPoolExecutor(options.jobs, context, torch.set_num_threads, (threads,)) as pool:
        playing = [pool.submit(_seed_rows, options, seed) for seed in options.seed_numbers]
        try:
            for done in as_completed(playing):
                yield from done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _seed_rows(options: SimulationOptions, seed: int) -> list[Row]:
    return list(_play_seed(options, seed))


def _play_seed(options: SimulationOptions, number: int) -> Iterator[Row]:
    seed = Seed(options, build_world(options), number)
    for strategy in options.strategies:
        yield from play(seed, strategy)
