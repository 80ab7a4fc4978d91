"""How good the annotated images are, as a network says that is trained on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from backend.project.config import ProjectConfig
from backend.rounds.starts import keeping_of, load_start
from model import checkpoints
from model.engines.base import Engine, EngineConfig
from model.engines.loader import build_engine
from model.judging.evaluation import Evaluation, detections_of, evaluate, truth_of
from model.record_images import RecordImages
from model.records import Record
from model.training.loop import train
from sampling.mc_dropout import score
from sampling.ranking import Candidate

EVALUATION_THRESHOLD = 0.05
SCORED_AT_ONCE = 8


@dataclass(frozen=True, eq=False)
class World:
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


class NetworkJudge:
    """Learns by training an engine on the records; keeps the weights of its last lesson in a file."""

    def __init__(self, world: World, weights: Callable[[int], Path], seed: int) -> None:
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
