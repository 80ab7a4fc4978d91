"""Training an engine on records."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed

from model.engines.base import Engine, Target
from model.errors import BadRecord, is_out_of_memory
from model.records import Record
from model.training.augmentation import Augmentation
from model.training.config import TrainingConfig as TrainingConfig  # part of this module's interface
from model.training.dataset import RecordDataset, Sample, collate
from model.training.freezing import SHARE, frozen, trained_groups
from model.training.schedule import (
    repeat_factors,
    repeat_threshold,
    with_replay,
)
from model.training.showings import read_ahead, showings
from model.training.state import TrainingState, config_facts, load_state, save_state

logger = logging.getLogger(__name__)

CHECKPOINT_S = 60.0
"""Work that a kill costs at most, where `checkpoint_period` does not say otherwise."""

GAIN = 0.002
"""Mask AP by which an evaluation has to surpass the best one to count as progress."""

CHANCE = 1 / 3
"""Share of the best mask AP that the last evaluation may lack and its weights still be the ones to keep.

They are those of the lowest learning rate. On some tens of validation images, with a rare class among them, the best of
several evaluations is mostly a lucky one: kept, such weights did worse on other images than the last.
"""

EARLIEST_STOP = 0.6
"""Share of the iterations before which no run stops."""

LONGEST_GRADIENT = 10.0

GENTLER = "lower learning_rate or lengthen warmup_iterations"
"""What mends a training that diverges."""


@dataclass(frozen=True)
class Progress:
    """Where a training run stands.

    step, steps       done, and of how many at most
    loss, losses      summed, and by name
    mask_ap           of the last look at the validation images, None before the first
    seconds_per_step  in this attempt
    """

    step: int
    steps: int
    loss: float
    losses: dict[str, float]
    mask_ap: float | None
    seconds_per_step: float

    @property
    def seconds_left(self) -> float:
        """Until the last step, if it does not stop early."""
        return self.seconds_per_step * (self.steps - self.step)


@dataclass(frozen=True)
class Trained:
    """What came of a training run.

    loss         mean over the last tenth of the steps
    steps        done; fewer than planned if it stopped early
    kept_step    the step whose weights the engine has: the last, or the best by mask AP if the last are clearly worse
    evaluations  (step, mask AP)
    seconds      spent, over all attempts
    """

    loss: float
    steps: int
    kept_step: int
    evaluations: tuple[tuple[int, float], ...]
    seconds: float


OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], TrainingConfig], torch.optim.Optimizer]] = {
    "adamw": lambda groups, c: torch.optim.AdamW(groups, lr=c.learning_rate, weight_decay=c.weight_decay, fused=True),
    "sgd": lambda groups, c: torch.optim.SGD(groups, lr=c.learning_rate, momentum=0.9, weight_decay=c.weight_decay),
}


def train(
    engine: Engine,
    records: Sequence[Record],
    load_image: Callable[[str], np.ndarray],
    config: TrainingConfig,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    *,
    validate: Callable[[], float | None] | None = None,
    checkpoint: Path | None = None,
    new_images: frozenset[str] = frozenset(),
) -> Trained:
    """Train the engine in place.

    `validate` measures the engine's mask AP where `config.eval_period` asks for it. With a `checkpoint` file a killed
    run goes on from the last minute; the caller removes it in the end. `new_images` are those that `config.replay`
    does not count as old. In a group of processes (torch.distributed) each computes its part of every batch.
    Raises BadRecord if there is nothing to train on, and FloatingPointError if the loss or a weight is no longer a
    number.
    """
    if not records:
        raise BadRecord("training needs at least one annotated image outside of the validation split, got none")
    with frozen(engine, config.freeze_at, config.backbone_rate):
        run = _Run(engine, config, validate, checkpoint)
        with closing(_batches(engine, records, load_image, config, new_images, run.state.step)) as batches:
            run.go_on(batches, on_progress)
        return run.end()


def _batches(
    engine: Engine,
    records: Sequence[Record],
    load_image: Callable[[str], np.ndarray],
    config: TrainingConfig,
    new_images: frozenset[str],
    step: int,
) -> Generator[list[Sample], None, None]:
    """Endless batches from a step on; in a group of processes this one's part of each."""
    augmentation = Augmentation(zoom=config.zoom, light=config.light)
    dataset = RecordDataset(
        records, engine.classes, load_image, engine.training_size_hw, augmentation, scaling=engine.scaling
    )
    factors = factors_of(records, config, new_images)
    rank, processes = place_in_group()
    each = math.ceil(config.batch_size / processes)
    items = islice(showings(factors, config.seed, step * each * processes), rank, None, processes)
    return read_ahead(items, each, dataset.sample, config.num_workers)


def factors_of(records: Sequence[Record], config: TrainingConfig, new_images: frozenset[str]) -> np.ndarray:
    """How often each image is shown per epoch, (n,)."""
    names = sorted({outline.label for record in records for outline in record.outlines})
    labels = [[names.index(outline.label) for outline in record.outlines] for record in records]
    minority = names if config.minority_classes is None else [n for n in config.minority_classes if n in names]
    is_known = config.minority_classes is None or len(minority) == len(config.minority_classes)
    threshold = repeat_threshold(labels, [names.index(n) for n in minority], config.repeat_factor_smallest_class)
    factors = repeat_factors(labels, threshold if is_known else 0.0)
    return with_replay(factors, [record.image in new_images for record in records], config.replay)


class _Run:
    """One attempt at a training run."""

    def __init__(
        self,
        engine: Engine,
        config: TrainingConfig,
        validate: Callable[[], float | None] | None,
        checkpoint: Path | None,
    ) -> None:
        self.engine, self.config, self.validate, self.checkpoint = engine, config, validate, checkpoint
        self.rank, self.processes = place_in_group()
        torch.manual_seed(config.seed + self.rank)
        self.optimizer = OPTIMIZERS[config.optimizer](trained_groups(engine, config.backbone_rate), config)
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        known = load_state(checkpoint, engine, self.optimizer, config_facts(config)) if checkpoint else None
        self.state = known or TrainingState()
        if known and self.rank > 0:
            torch.manual_seed(config.seed + self.rank + known.step)  # the checkpoint holds the first one's state
        if known:
            logger.info("the training goes on from step %d of %d", known.step, config.iterations)
        if self.processes > 1:
            for tensor in engine.network.state_dict().values():
                distributed.broadcast(tensor, 0)

    def go_on(self, batches: Iterator[list[Sample]], on_progress: Callable[[Progress], None]) -> None:
        """Step after step until the last one, or until there is no progress any more."""
        started, begun_at, saved = time.monotonic(), self.state.step, time.monotonic()
        spent = self.state.seconds
        while self.state.step < self.config.iterations and not self._has_stalled():
            losses = self._step(*collate(next(batches)))
            self.state.losses.append(sum(losses.values()))
            self.state.step += 1
            if self._is_look_due():
                self._look()
            now = time.monotonic()
            self.state.seconds = spent + now - started
            if self.rank == 0:
                on_progress(self._progress(losses, (now - started) / (self.state.step - begun_at)))
                if self.checkpoint is not None and self._is_due(now - saved):
                    self._require_numbers()  # or each later attempt would go on from what is none
                    save_state(self.checkpoint, self.state, self.engine, self.optimizer, config_facts(self.config))
                    saved = time.monotonic()

    def end(self) -> Trained:
        """Leave the engine with the weights worth keeping, in eval mode."""
        state = self.state
        kept = state.step
        if state.best is not None and state.evaluations[-1][1] < (1 - CHANCE) * _best(state.evaluations)[1]:
            self.engine.load_tensors(state.best, self.engine.classes)
            kept, _ = _best(state.evaluations)
        self._require_numbers()
        self.engine.network.eval()
        loss = float(np.mean(state.losses[-max(1, len(state.losses) // 10) :]))
        return Trained(loss, state.step, kept, tuple(state.evaluations), round(state.seconds, 1))

    def _require_numbers(self) -> None:
        """FloatingPointError if a gradient of the last step has left weights that are none."""
        if not all(parameter.isfinite().all() for parameter in self.parameters):
            raise FloatingPointError(f"the trained weights are no longer numbers; {GENTLER}")

    def _step(self, images: list[torch.Tensor], targets: list[Target]) -> dict[str, float]:
        """One optimiser step; the losses by name."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.rate(self.state.step) * group[SHARE]
        losses = self._backward(images, targets)
        total = sum(losses.values())
        if not math.isfinite(total):
            raise FloatingPointError(f"the training loss became {total}; {GENTLER}")
        if self.processes > 1:
            _average([p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters], self.parameters)
        torch.nn.utils.clip_grad_norm_(self.parameters, max_norm=LONGEST_GRADIENT)
        self.optimizer.step()
        return losses

    def _backward(self, images: list[torch.Tensor], targets: list[Target]) -> dict[str, float]:
        """Gradients of a batch, in as many parts as the memory asks for; the losses by name."""
        while True:
            self.optimizer.zero_grad()
            try:
                return self._backward_in_parts(images, targets)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as err:
                if not is_out_of_memory(err) or self.state.parts >= len(images):
                    raise
            self.state.parts *= 2
            logger.warning(
                "not enough memory for a batch of %d, from now on in %d parts", len(images), self.state.parts
            )
            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()

    def _backward_in_parts(self, images: list[torch.Tensor], targets: list[Target]) -> dict[str, float]:
        size = math.ceil(len(images) / self.state.parts)
        totals: dict[str, float] = {}
        for start in range(0, len(images), size):
            part = images[start : start + size], targets[start : start + size]
            share = len(part[0]) / len(images)
            losses = self.engine.losses(*part)
            together = torch.stack(list(losses.values()))
            values = together.tolist()  # a GPU is waited for before the way back, not after it
            (together.sum() * share).backward()
            for name, value in zip(losses, values, strict=True):
                totals[name] = totals.get(name, 0.0) + value * share
        return totals

    def _is_look_due(self) -> bool:
        period, step = self.config.eval_period, self.state.step
        return period is not None and (step % period == 0 or step == self.config.iterations)

    def _look(self) -> None:
        """Measure the engine on the validation images, and keep its weights if it is the best yet."""
        value = self.validate() if self.validate is not None and self.rank == 0 else None
        if self.processes > 1:
            said = torch.tensor([math.nan if value is None else value], device=self.parameters[0].device)
            distributed.broadcast(said, 0)
            value = None if torch.isnan(said).item() else float(said)
        if value is None:
            return
        self.state.evaluations.append((self.state.step, value))
        if _best(self.state.evaluations)[0] == self.state.step:
            self.state.best = {name: tensor.detach().cpu().clone() for name, tensor in self.engine.tensors().items()}

    def _has_stalled(self) -> bool:
        """Whether the last looks, `patience` of them, all brought no progress.

        Not before the learning rate has fallen, as much is gained then, nor before anything is learned at all.
        """
        patience, evaluations = self.config.patience, self.state.evaluations
        if not patience or len(evaluations) <= patience or self.state.step < EARLIEST_STOP * self.config.iterations:
            return False
        before = max(ap for _, ap in evaluations[:-patience])
        if before < GAIN:
            return False
        has_stalled = max(ap for _, ap in evaluations[-patience:]) < before + GAIN
        if has_stalled:
            logger.info("no progress since step %d: the training stops at %d", _best(evaluations)[0], self.state.step)
        return has_stalled

    def _is_due(self, since_s: float) -> bool:
        period = self.config.checkpoint_period
        return since_s >= CHECKPOINT_S or (period is not None and self.state.step % period == 0)

    def _progress(self, losses: dict[str, float], seconds_per_step: float) -> Progress:
        last = self.state.evaluations[-1][1] if self.state.evaluations else None
        return Progress(
            self.state.step, self.config.iterations, self.state.losses[-1], losses, last, round(seconds_per_step, 4)
        )


def _best(evaluations: Sequence[tuple[int, float]]) -> tuple[int, float]:
    """The evaluation with the highest mask AP, the last one of equals."""
    return max(evaluations, key=lambda found: (found[1], found[0]))


def place_in_group() -> tuple[int, int]:
    """This process's number in its group (torch.distributed), and how many there are; 0 and 1 without a group."""
    if not distributed.is_available() or not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def _average(gradients: list[torch.Tensor], parameters: list[torch.nn.Parameter]) -> None:
    """Give each parameter the mean of its gradients in all processes."""
    together = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(together)
    together /= distributed.get_world_size()
    for parameter, gradient in zip(parameters, together.split([g.numel() for g in gradients]), strict=True):
        mean = gradient.view_as(parameter)
        parameter.grad = torch.empty_like(parameter).copy_(mean)  # fused optimizers take the parameter's memory layout
