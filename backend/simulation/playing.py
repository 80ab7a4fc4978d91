"""One seed of a simulation: the runs of all strategies, from the same split and the same first images."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from backend.errors import BadSetting
from backend.project.feature_cache import FeatureCache
from backend.rounds.seen_objects import Onlooker
from backend.simulation.judge import Judge
from backend.simulation.linear_judge import LinearJudge
from backend.simulation.network_judge import NetworkJudge
from backend.simulation.object_features import ObjectFeatures, features_of
from backend.simulation.options import RANDOM, RANDOM_COPIES_LAST, SimulationOptions
from backend.simulation.report import Row
from backend.simulation.twins import twins_of
from backend.simulation.world import Split, World, split
from model.files import write_atomically
from sampling.near_copies import Twins
from sampling.simulate import Plan, Step, simulate
from sampling.strategies import BY_FEATURES, BY_OBJECTS, BY_SCHEDULE

logger = logging.getLogger(__name__)

SECONDS_PER_OBJECT = 79.0
"""Time to outline an object by hand (Lin et al. 2014: 22 hours of work for 1,000 outlines)."""

SECONDS_PER_CLASS = 1.0
"""Time to see whether an image shows a class (Bearman et al. 2016)."""


@dataclass(frozen=True, eq=False)
class Seed:
    """What the runs of one seed share; `folder` keeps what it takes to go on with them."""

    options: SimulationOptions
    world: World
    number: int

    @property
    def folder(self) -> Path:
        """The runs of this seed, a folder for each strategy."""
        return runs_folder(self.options) / f"seed_{self.number}"

    @cached_property
    def split(self) -> Split:
        """Which images may be learned from, and which are tested on."""
        return split(self.world, self.options, self.number)

    @cached_property
    def features(self) -> ObjectFeatures:
        """What the linear judge sees."""
        return features_of(self.world, runs_folder(self.options))

    @cached_property
    def twins(self) -> Twins:
        """Which images are near copies of one another."""
        return twins_of(self.world, self.options, runs_folder(self.options))

    @cached_property
    def judged(self) -> Split:
        """The split without those photos to test on that are near copies of some to learn from, where they are known.

        What was learned by heart is no test.
        """
        if not self.options.moves_near_copies:
            return self.split
        learn = set(self.split.learn)
        test = tuple(photo for photo in self.split.test if learn.isdisjoint(self.twins.get(photo, ())))
        return replace(self.split, test=test)

    def run_folder(self, strategy: str) -> Path:
        """What it takes to go on with a run; a strategy that changes over the loops has one for each number of them."""
        changes = strategy in BY_SCHEDULE or (strategy in BY_OBJECTS and self.world.config.coverage_noise > 0)
        return self.folder / (f"{strategy}_{self.options.loops}_loops" if changes else strategy)

    def judge(self, strategy: str) -> Judge:
        """The judge of a strategy's run, before the first lesson."""
        if self.options.judge == "linear":
            return LinearJudge(self.features, self.judged, self.world.config.mode)

        def weights(loop: int) -> Path:
            return (self.run_folder(strategy) if loop else self.folder) / f"loop_{loop}.safetensors"

        return NetworkJudge(self.world, self.judged, weights, self.number, self._onlooker(strategy))

    def _onlooker(self, strategy: str) -> Onlooker | None:
        """Who looks at images beside the network, where the strategy asks for that."""
        if strategy not in BY_FEATURES or not self.world.config.has_seen_before:
            return None
        cache = FeatureCache(runs_folder(self.options) / "features", math.inf, self.world.device)
        return Onlooker(cache, self.world.config.mcd_iterations)

    def plan(self, strategy: str) -> Plan:
        """From the first images, which are random ones, to those that the strategy chooses."""
        config, loops = self.world.config, self.options.loops
        ordering = RANDOM if strategy == RANDOM_COPIES_LAST else strategy
        ranking = replace(config.ranking_config(), strategy=ordering, rounds=max(1, loops))
        batches = tuple(config.pool_size_after(loop) for loop in range(1, loops + 1))
        twins = self.twins if self.options.puts_copies_last(strategy) else {}
        order = np.random.default_rng(self.number).permutation(self.split.learn)
        initial = tuple(sorted(order[: config.initial_datasize].tolist()))
        try:
            return Plan(self.split.learn, initial, batches, ranking, self.number, twins)
        except ValueError as err:
            mend = "choose fewer --loops, or a smaller --pool-size, --initial or --test-share"
            raise BadSetting(f"{err}; {mend}") from err


def runs_folder(options: SimulationOptions) -> Path:
    """Where a simulation keeps what it takes to go on."""
    return options.out / "runs"


def play(seed: Seed, strategy: str) -> Iterator[Row]:
    """One run's rows, those of an earlier start first."""
    plan, judge, loops = seed.plan(strategy), seed.judge(strategy), seed.options.loops
    path = seed.run_folder(strategy) / "steps.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [row for row in _rows_of(path) if row.loop <= loops]
    yield from rows
    if rows and rows[-1].loop < loops:
        judge.recall(rows[-1].chosen, rows[-1].loop)
    done = [Step(row.loop, row.chosen, row.value) for row in rows]
    started = time.monotonic()
    for step in simulate(judge, plan, done):
        row = _row(seed, strategy, judge, step, time.monotonic() - started)
        with path.open("a") as file:
            file.write(json.dumps(asdict(row)) + "\n")
        judge.forget(step.loop - 1)
        yield row
        started = time.monotonic()


def _rows_of(path: Path) -> list[Row]:
    """The rows of an earlier start; one that was cut off at the end is played again, one before it with all the run.

    What a run that stopped in its midst would go on from is gone by then.
    """
    lines, rows = path.read_text().splitlines(keepends=True) if path.exists() else [], list[Row]()
    for line in lines:
        try:
            rows.append(Row(**json.loads(line if line.endswith("\n") else "")))
        except (ValueError, TypeError):
            left = len(rows) if line is lines[-1] else 0
            logger.warning("%s has a broken line %d; what is played again begins at loop %d", path, len(rows) + 1, left)
            write_atomically(path, "".join(lines[:left]))
            return rows[:left]
    return rows


def _row(seed: Seed, strategy: str, judge: Judge, step: Step, seconds: float) -> Row:
    objects = sum(len(seed.world.records[index].outlines) for index in step.images)
    looks = len(step.images) * len(seed.world.classes)
    return Row(
        strategy=strategy,
        seed=seed.number,
        loop=step.loop,
        images=len(step.images),
        objects=objects,
        annotation_seconds=objects * SECONDS_PER_OBJECT + looks * SECONDS_PER_CLASS,
        seconds=round(seconds, 1),
        chosen=step.images,
        **asdict(judge.verdict),
    )
