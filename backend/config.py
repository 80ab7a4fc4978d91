"""A project's settings: MaskAL's names, checked at load, unset values chosen from network and device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backend.errors import BadSetting
from model.engines.base import EngineConfig
from model.schedule import iterations
from model.training import TrainingConfig
from sampling.mc_dropout import ScoringConfig
from sampling.ranking import RankingConfig

Share = Field(ge=0, le=1)


class ProjectConfig(BaseModel):
    """One project's YAML file; names are MaskAL's where it has them, None means chosen from network and device."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    engine: Literal["torchvision", "fake"] = "torchvision"
    network_config: str | None = None
    pretrained_weights: str | None = None
    device: str | None = None
    warm_start: bool = True

    confidence_threshold: float = Field(default=0.5, ge=0, le=1)
    nms_threshold: float = Field(default=0.2, ge=0, le=1)
    dropout_probability: float = Field(default=0.25, ge=0, lt=1)
    mcd_iterations: int = Field(default=10, ge=1)
    iou_thres: float = Field(default=0.5, ge=0, le=1)
    scoring: Literal["fast", "exact"] = "fast"
    strategy: Literal[
        "uncertainty", "certainty", "random", "random_foreground", "class_aware", "diverse", "stratified"
    ] = "uncertainty"
    without_detections: Literal["median", "first", "last"] | None = None
    random_share: float = Field(default=0.0, ge=0, le=1)
    mode: Literal["mean", "min", "max"] = "mean"
    initial_datasize: int = Field(default=30, ge=1)
    pool_size: int = Field(default=20, ge=1)
    holdout_prelabels: bool = True

    learning_rate: float | None = Field(default=None, gt=0)
    learning_policy: Literal["cosine", "steps_with_decay"] = "cosine"
    step_ratios: list[float] = [0.5, 0.8]
    gamma: float = Field(default=0.1, gt=0)
    warmup_iterations: int | None = Field(default=None, ge=0)
    train_iterations_base: int | None = Field(default=None, ge=1)
    train_iterations_step_size: int = Field(default=0, ge=0)
    step_image_number: int = Field(default=500, ge=1)
    train_batch_size: int = Field(default=4, ge=1)
    num_workers: int = Field(default=0, ge=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    repeat_factor_smallest_class: float = Field(default=1.0, ge=0)

    def engine_config(self, device: str) -> EngineConfig:
        """The engine's part; without `network_config` a GPU gets ResNet-50, a CPU the small network."""
        network = self.network_config or ("nano" if device == "cpu" else "maskrcnn_resnet50_fpn_v2")
        return EngineConfig(network, self.dropout_probability, self.confidence_threshold, self.nms_threshold)

    def scoring_config(self) -> ScoringConfig:
        """The scoring's part."""
        exact = self.scoring == "exact"
        return ScoringConfig(passes=self.mcd_iterations, iou_threshold=self.iou_thres, mode=self.mode, exact=exact)

    def ranking_config(self) -> RankingConfig:
        """The queue's part; in exact mode images without detections are served last, as they are never in MaskAL."""
        return RankingConfig(
            strategy=self.strategy,
            without_detections=self.without_detections or ("last" if self.scoring == "exact" else "median"),
            random_share=self.random_share,
            batch=self.pool_size,
        )

    def training_config(self, network: str, images: int, *, warm: bool, seed: int) -> TrainingConfig:
        """A fully resolved training run on so many images; `warm`: from a version of this project."""
        chosen = TRAINING.get(network, TRAINING["default"])
        if self.train_iterations_base is None:
            steps = chosen.warm_iterations if warm else chosen.iterations
        else:
            steps = iterations(
                images,
                base=self.train_iterations_base,
                step_size=self.train_iterations_step_size,
                step_image_number=self.step_image_number,
            )
        warmup = self.warmup_iterations if self.warmup_iterations is not None else min(100, steps // 10)
        return TrainingConfig(
            iterations=steps,
            learning_rate=self.learning_rate or chosen.learning_rate,
            batch_size=self.train_batch_size,
            warmup_iterations=warmup,
            weight_decay=self.weight_decay,
            optimizer=chosen.optimizer,
            learning_policy=self.learning_policy,
            step_ratios=tuple(self.step_ratios),
            gamma=self.gamma,
            repeat_factor_smallest_class=self.repeat_factor_smallest_class,
            num_workers=self.num_workers,
            seed=seed,
        )


@dataclass(frozen=True)
class TrainingChoice:
    """What a network trains with where the project's file says nothing."""

    optimizer: str
    learning_rate: float
    iterations: int
    warm_iterations: int


TRAINING = {
    "nano": TrainingChoice("adamw", 5e-4, iterations=240, warm_iterations=150),
    "default": TrainingChoice("sgd", 5e-3, iterations=1000, warm_iterations=500),
}


def read_config(path: Path) -> ProjectConfig:
    """Read a project's YAML file; BadSetting names each key, what came and what was wanted."""
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as err:
        raise BadSetting(f"{path.name} cannot be read as YAML: {err}") from err
    return check_config({} if content is None else content, path.name)


def check_config(content: Any, source: str) -> ProjectConfig:
    """Settings from plain data; BadSetting names each key of `source` that does not fit."""
    if not isinstance(content, dict):
        raise BadSetting(f"{source} should hold `name: value` lines, got a {type(content).__name__}")
    try:
        return ProjectConfig.model_validate(content)
    except ValidationError as err:
        raise BadSetting("; ".join(_complaint(source, e) for e in err.errors())) from err


def _complaint(source: str, error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{source}: unknown setting {key!r}; known are {', '.join(sorted(ProjectConfig.model_fields))}"
    return f"{source}: {key}: {error['msg']}, got {error['input']!r}"
