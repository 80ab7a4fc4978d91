"""Training an engine on records."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from model.dataset import RecordDataset, augmentation, collate
from model.engines.base import Engine
from model.errors import BadRecord
from model.records import Record
from model.schedule import POLICIES, decay_steps, epoch_order, learning_rate_factor, repeat_factors, repeat_threshold

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingConfig:
    """One training run, fully resolved.

    iterations in optimiser steps; learning_rate at the end of the warm-up; optimizer "adamw" or "sgd"
    (momentum 0.9); learning_policy "cosine" or "steps_with_decay" (then `step_ratios` and `gamma`);
    repeat_factor_smallest_class as in MaskAL (1 repeats nothing by itself); seed for order, augmentation
    and dropout.
    """

    iterations: int
    learning_rate: float
    batch_size: int = 4
    warmup_iterations: int = 50
    weight_decay: float = 1e-4
    optimizer: str = "adamw"
    learning_policy: str = "cosine"
    step_ratios: tuple[float, ...] = (0.5, 0.8)
    gamma: float = 0.1
    repeat_factor_smallest_class: float = 1.0
    num_workers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("iterations", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")
        if self.learning_policy not in POLICIES:
            raise ValueError(f"learning_policy must be one of {', '.join(POLICIES)}, got {self.learning_policy!r}")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {self.optimizer!r}")


@dataclass(frozen=True)
class Progress:
    """Where a training run stands: steps done of all, the summed loss, seconds per step."""

    step: int
    steps: int
    loss: float
    seconds_per_step: float


OPTIMIZERS: dict[str, Callable[[list[torch.nn.Parameter], TrainingConfig], torch.optim.Optimizer]] = {
    "adamw": lambda parameters, c: torch.optim.AdamW(
        parameters, lr=c.learning_rate, weight_decay=c.weight_decay, fused=True
    ),
    "sgd": lambda parameters, c: torch.optim.SGD(
        parameters, lr=c.learning_rate, momentum=0.9, weight_decay=c.weight_decay
    ),
}


class RepeatFactorSampler(Sampler[int]):
    """Endless image indices, epoch after epoch, each image as often as its rarest class asks for."""

    def __init__(self, labels_per_image: Sequence[Sequence[int]], repeat_smallest: float, seed: int) -> None:
        counts = {label for labels in labels_per_image for label in labels}
        threshold = repeat_threshold(labels_per_image, sorted(counts), repeat_smallest)
        self.factors = repeat_factors(labels_per_image, threshold)
        self.rng = np.random.default_rng(seed)

    def __iter__(self) -> Iterator[int]:
        while True:
            yield from epoch_order(self.factors, self.rng)


def train(
    engine: Engine,
    records: Sequence[Record],
    load_image: Callable[[str], np.ndarray],
    config: TrainingConfig,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> float:
    """Train the engine in place and return the mean loss of the last tenth of the steps.

    Raises BadRecord if there is nothing to train on and FloatingPointError if the loss is no longer a number.
    """
    if not records:
        raise BadRecord("training needs at least one annotated image outside of the validation split, got none")
    torch.manual_seed(config.seed)
    loader = iter(_loader(engine, records, load_image, config))
    parameters = [p for p in engine.network.parameters() if p.requires_grad]
    optimizer = OPTIMIZERS[config.optimizer](parameters, config)
    steps = decay_steps(config.iterations, config.step_ratios)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: learning_rate_factor(
            step, config.iterations, config.warmup_iterations, config.learning_policy, steps, config.gamma
        ),
    )
    losses: list[float] = []
    started = time.monotonic()
    for step in range(1, config.iterations + 1):
        losses.append(_step(engine, next(loader), optimizer, parameters))
        scheduler.step()
        on_progress(Progress(step, config.iterations, losses[-1], (time.monotonic() - started) / step))
    engine.network.eval()
    return float(np.mean(losses[-max(1, len(losses) // 10) :]))


def _loader(
    engine: Engine, records: Sequence[Record], load_image: Callable[[str], np.ndarray], config: TrainingConfig
) -> DataLoader:
    dataset = RecordDataset(records, engine.classes, load_image, engine.training_size_hw, augmentation())
    known = {name: index for index, name in enumerate(engine.classes)}
    labels = [[known[o.label] for o in record.outlines if o.label in known] for record in records]
    return DataLoader(
        dataset,
        batch_size=config.batch_size,
        sampler=RepeatFactorSampler(labels, config.repeat_factor_smallest_class, config.seed),
        num_workers=config.num_workers,
        collate_fn=collate,
    )


def _step(
    engine: Engine,
    batch: tuple[list[torch.Tensor], list],
    optimizer: torch.optim.Optimizer,
    parameters: list[torch.nn.Parameter],
) -> float:
    images, targets = batch
    loss = sum(engine.losses(images, targets).values(), start=torch.zeros(()))
    value = float(loss.detach())
    if not math.isfinite(value):
        raise FloatingPointError(f"the training loss became {value}; lower learning_rate or lengthen warmup_iterations")
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, max_norm=10.0)
    optimizer.step()
    return value
