"""Processor seconds that a training step costs, networks side by side in one run.

    python -m tests.benchmarks.steps --images photos/ --annotations annotations.json --json steps.json

Each network trains on the same photos as a project's first round does, batches of four at its own usual input, with
what it starts from and leaves as it was; it uses as many threads as `--threads` says. First so many steps that are not
counted, as untrained networks look at other boxes; then the networks take turns. Medians over the turns, and each
network's share of the last one's. Processor seconds: other programs on the machine change little of them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from backend.project.config import ProjectConfig
from backend.rounds.starts import keeping_of, load_start
from model.engines.base import EngineConfig
from model.engines.torchvision.engine import TorchvisionEngine
from model.engines.torchvision.networks import with_facts
from model.files import write_json
from model.formats import coco
from model.training.loop import Progress, TrainingConfig, train
from tests.benchmarks.scoring import device_name
from tests.benchmarks.torchvision_loop import BATCH, WARM_STEPS, read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--networks", default="lite,nano")
    parser.add_argument("--photos", type=int, default=30)
    parser.add_argument("--before", type=int, default=40, help="steps before the first turn")
    parser.add_argument("--steps", type=int, default=10, help="counted steps a turn, after five that are not")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        racers = [Racer(name, options, Path(folder)) for name in options.networks.split(",")]
        for racer in racers:
            racer.run(options.before)
        seconds: dict[str, list[float]] = {racer.network: [] for racer in racers}
        for _ in range(options.turns):
            for racer in racers:
                seconds[racer.network].append(racer.run(options.steps))
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    report = {
        "s_a_step": {name: round(found, 4) for name, found in medians.items()},
        "share": {name: round(found / medians[racers[-1].network], 3) for name, found in medians.items()},
        "turns": {name: [round(s, 4) for s in found] for name, found in seconds.items()},
        "size": {racer.network: racer.engine.training_size_hw for racer in racers},
        "device": device_name(racers[0].engine),
        "threads": options.threads,
    }
    print(json.dumps(report, indent=2))
    if options.json is not None:
        write_json(options.json, report)


class Racer:
    """A network that goes on learning from call to call."""

    def __init__(self, network: str, options: argparse.Namespace, folder: Path) -> None:
        self.network, self.images = network, options.images
        self.records = coco.read(options.annotations)[: options.photos]
        torch.manual_seed(0)
        self.settings = ProjectConfig(network_config=network, train_batch_size=BATCH, num_workers=0)
        config = with_facts(EngineConfig(network=network))
        self.engine = TorchvisionEngine(coco.class_names(options.annotations), config)
        load_start(self.engine, self.settings.pretrained_weights, folder, "cpu")

    def run(self, steps: int) -> float:
        """Processor seconds a step of so many, after some that are not counted."""
        at: dict[int, float] = {}

        def note(progress: Progress) -> None:
            at[progress.step] = time.process_time()

        train(self.engine, self.records, lambda name: read(self.images / name), self._config(steps + WARM_STEPS), note)
        return (at[steps + WARM_STEPS] - at[WARM_STEPS]) / steps

    def _config(self, steps: int) -> TrainingConfig:
        keeping = keeping_of(self.engine, self.settings.pretrained_weights)
        config = self.settings.training_config(self.network, self.records, warm=False, seed=0, keeping=keeping)
        return replace(config, iterations=steps, patience=0)


if __name__ == "__main__":
    main()
