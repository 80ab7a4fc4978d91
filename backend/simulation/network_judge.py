"""How good the annotated images are, as a network says that is trained on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from backend.rounds.seen_objects import Onlooker, annotated_features
from backend.rounds.starts import keeping_of, load_start
from backend.simulation.judge import Verdict
from backend.simulation.world import Split, World
from model import checkpoints
from model.engines.base import Engine
from model.engines.loader import build_engine
from model.judging.evaluation import EVALUATION_THRESHOLD, Evaluation, detections_of, evaluate, truth_of
from model.records import boxes_of
from model.training.loop import train
from sampling.coverage import PRIOR, Known
from sampling.mc_dropout import score
from sampling.ranking import Candidate

SCORED_AT_ONCE = 8


class NetworkJudge:
    """Learns by training an engine on the records; keeps the weights of its last lesson in a file."""

    def __init__(
        self, world: World, split: Split, weights: Callable[[int], Path], seed: int, onlooker: Onlooker | None = None
    ) -> None:
        self.world, self.split, self.weights, self.seed, self.onlooker = world, split, weights, seed, onlooker
        self.engine: Engine = build_engine(world.config.engine, world.classes, world.engine_config())
        self.verdict = Verdict()

    def learn(self, images: Sequence[int], loop: int) -> float:
        """Train on these images, from the last weights or from the pretrained ones, and return the mask AP."""
        path = self.weights(loop)
        if path.exists():
            self.recall(images, loop)
        else:
            self._train(images, loop)
            checkpoints.save(path, self.engine.tensors(), {})
        found = self._evaluate()
        self.verdict = Verdict(mask_ap=found.mask_ap or 0.0, mask_ap50=found.mask_ap50 or 0.0)
        return found.mask_ap or 0.0

    def recall(self, images: Sequence[int], loop: int) -> None:
        """Be as after a loop that was played before."""
        self._load(checkpoints.load(self.weights(loop))[0])

    def forget(self, loop: int) -> None:
        """Delete the weights of a loop; those of the first are all strategies' own."""
        if loop > 0:
            self.weights(loop).unlink(missing_ok=True)

    def candidates(self, images: Sequence[int]) -> Iterator[Candidate]:
        """The images scored as the worker scores them."""
        config = self.world.config.scoring_config()
        for start in range(0, len(images), SCORED_AT_ONCE):
            some = images[start : start + SCORED_AT_ONCE]
            pixels = [self.world.image(self.world.records[i].image) for i in some]
            encodings = self.engine.encode(pixels, exact=config.exact)
            for index, image, encoded in zip(some, pixels, encodings, strict=True):
                generator = torch.Generator(self.world.device).manual_seed(1000 * self.seed + index)
                found = score(self.engine, encoded, config, generator)
                counts = tuple(found.class_counts)
                if self.onlooker:
                    seen = self.onlooker.look(self.engine, encoded, image, generator)
                    yield Candidate(index, found.certainty, False, counts, seen.whole, seen.objects)
                else:
                    yield Candidate(index, found.certainty, False, counts, self.engine.embedding(encoded))

    def known(self, images: Sequence[int]) -> Known | None:
        """What was annotated in the images; all of them are learned from, so uncertainty has nothing to be tried on."""
        if not self.onlooker:
            return None
        maps, records = self.onlooker.cache.maps, [self.world.records[i] for i in images]
        features = [annotated_features(maps(self.world.image(r.image)), boxes_of(r)) for r in records]
        return Known(np.concatenate(features), PRIOR)

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
        records = [self.world.records[index] for index in self.split.test]
        found = [
            detections_of(self.engine.predict(self.world.image(r.image), confidence_threshold=EVALUATION_THRESHOLD))
            for r in records
        ]
        return evaluate([truth_of(r, self.world.classes) for r in records], found, self.world.classes)
