"""How a training run goes, fully resolved; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from model.training.augmentation import Augmentation
from model.training.schedule import POLICIES, decay_steps, learning_rate_factor

OPTIMIZERS = ("adamw", "sgd")
"""Keys of the table of the same name in `model.training.loop`."""


@dataclass(frozen=True)
class TrainingConfig:
    """One training run, fully resolved.

    iterations      optimiser steps
    learning_rate   at the end of the warm-up
    batch_size      images a step, over all processes
    freeze_at       stages of the backbone that are not trained, from the stem on; None: those with which it was built
    backbone_rate   share of the learning rate for the backbone's other stages, 0..1; 0 freezes them, too
    optimizer       "adamw" or "sgd" (momentum 0.9)
    learning_policy "cosine" or "steps_with_decay" (then `step_ratios` and `gamma`)
    repeat_factor_smallest_class  as in MaskAL: 1 repeats nothing by itself
    minority_classes  classes that the smallest one is looked for among; None: all
    replay          share of the showings that goes to images which are not new; None: each image alike
    eval_period     steps from one look at the validation images to the next; None: no look
    patience        looks without progress after which the run stops early; 0: never
    checkpoint_period  steps from one checkpoint to the next; None: one a minute
    num_workers     threads that read images ahead
    zoom, light     how much images are changed, as in Augmentation
    seed            for order, augmentation and dropout
    """

    iterations: int
    learning_rate: float
    batch_size: int = 4
    freeze_at: int | None = None
    backbone_rate: float = 1.0
    warmup_iterations: int = 50
    weight_decay: float = 1e-4
    optimizer: str = "adamw"
    learning_policy: str = "cosine"
    step_ratios: tuple[float, ...] = (0.5, 0.8)
    gamma: float = 0.1
    repeat_factor_smallest_class: float = 1.0
    minority_classes: tuple[str, ...] | None = None
    replay: float | None = None
    eval_period: int | None = None
    patience: int = 0
    checkpoint_period: int | None = None
    num_workers: int = 1
    zoom: float = Augmentation.zoom
    light: float = Augmentation.light
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("iterations", "batch_size", "eval_period", "checkpoint_period"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")
        if self.freeze_at is not None and self.freeze_at < 0:
            raise ValueError(f"freeze_at must be at least 0, got {self.freeze_at}")
        if not 0 <= self.backbone_rate <= 1:
            raise ValueError(f"backbone_rate must lie in 0..1, got {self.backbone_rate}")
        if self.learning_policy not in POLICIES:
            raise ValueError(f"learning_policy must be one of {', '.join(POLICIES)}, got {self.learning_policy!r}")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {self.optimizer!r}")
        if self.replay is not None and not 0 <= self.replay < 1:
            raise ValueError(f"replay must lie in 0..1 and be below 1, got {self.replay}")

    def rate(self, step: int) -> float:
        """Learning rate of a step (0-based)."""
        steps = decay_steps(self.iterations, self.step_ratios)
        return self.learning_rate * learning_rate_factor(
            step, self.iterations, self.warmup_iterations, self.learning_policy, steps, self.gamma
        )
