"""A project's settings: MaskAL's names, checked at load, unset values chosen from network and device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PlainValidator,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from backend.errors import BadSetting
from backend.project.maskal_names import ITS_DEFAULT, MOVED, PERIODS, moved
from backend.project.settings_yaml import parse_settings
from model.engines.config import EngineConfig, InputRange, Keeping
from model.records import Record
from model.training.adaptation import (
    GROWTH,
    GROWTH_FOR_CLASSES,
    anchor_sizes,
    input_size,
    iterations_for,
    objects_per_image,
    repeat_factor,
)
from model.training.config import TrainingConfig
from model.training.schedule import iterations
from sampling.coverage import Parts
from sampling.ranking import RankingConfig
from sampling.scoring_config import ScoringConfig
from sampling.strategies import BY_FEATURES, BY_OBJECTS

PRESETS: dict[str, dict[str, Any]] = {
    "adaptive": {},
    "maskal": {
        "adapt_input": False,
        "early_stopping": False,
        "first_images": "random",
        "near_copies": "keep",
        "initial_datasize": 100,
        "pool_size": 200,
        "loops": 12,
        "mcd_iterations": 20,
        "scoring": "exact",
        "optimizer": "sgd",
        "learning_rate": 0.005,
        "learning_policy": "steps_with_decay",
        "warmup_iterations": 500,
        "train_batch_size": 1,
        "train_iterations_base": 2500,
        "train_iterations_step_size": 2500,
        "step_image_number": 500,
        "eval_period": 500,
        "checkpoint_period": 500,
        "repeat_factor_smallest_class": 1.5,
    },
}
"""What a preset sets where the project's file says nothing; "maskal" are the numbers of the published run."""

NETWORKS = {"cpu": "lite", "cuda": "maskrcnn_resnet50_fpn_v2"}
DETECTRON2_NETWORK = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"
"""What is trained where `network_config` says nothing, by device; Detectron2 has no small network."""

IMAGES_A_STEP = 4
LOOKS = 8
"""How often training looks at the validation images, and after how many looks without progress it stops."""

PATIENCE = 3


def _one_or_several(value: Any) -> Any:
    """A value that is a number of images, or a list of such numbers."""
    numbers = value if isinstance(value, list) else [value]
    if not numbers or any(type(one) is not int or one < 1 for one in numbers):
        raise PydanticCustomError("numbers", "Input should be a whole number from 1 or a list of such numbers")
    return value


class ProjectConfig(BaseModel):
    """One project's YAML file; names are MaskAL's where it has them, None: chosen from network, device and data."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    preset: Literal["adaptive", "maskal"] = "adaptive"
    engine: Literal["torchvision", "detectron2", "fake"] = "torchvision"
    network_config: str | None = None
    pretrained_weights: str | None = None
    device: str | None = Field(default=None, pattern=r"^(cpu|cuda(:\d+)?)$")
    warm_start: bool = True

    confidence_threshold: float = Field(default=0.5, ge=0, le=1)
    nms_threshold: float = Field(default=0.2, ge=0, le=1)
    dropout_probability: float = Field(default=0.25, ge=0, lt=1)
    mcd_iterations: int = Field(default=10, ge=1)
    iou_thres: float = Field(default=0.5, ge=0, le=1)
    scoring: Literal["fast", "exact"] = "fast"
    strategy: Literal[
        "uncertainty",
        "certainty",
        "random",
        "random_foreground",
        "class_turns",
        "class_aware",
        "diverse",
        "stratified",
        "coverage",
    ] = "uncertainty"
    coverage_uncertainty: float | None = Field(default=None, ge=0, le=1)
    coverage_class_turns: bool = True
    coverage_noise: float = Field(default=0.0, ge=0)
    first_images: Literal["coverage", "random"] | None = None
    near_copies: Literal["last", "keep"] | None = None
    without_detections: Literal["median", "first", "last"] | None = None
    random_share: float = Field(default=0.0, ge=0, le=1)
    mode: Literal["mean", "min", "max"] = "mean"
    initial_datasize: int = Field(default=30, ge=1)
    pool_size: Annotated[int | list[int], PlainValidator(_one_or_several)] = 20
    planned_rounds: int = Field(default=10, ge=1)
    loops: int | None = Field(default=None, ge=0)
    holdout_prelabels: bool = True
    keep_versions: int = Field(default=5, ge=1)

    adapt_input: bool = True
    early_stopping: bool = True
    replay: float | None = Field(default=None, ge=0, lt=1)
    freeze_at: int | None = Field(default=None, ge=0)
    backbone_rate: float | None = Field(default=None, ge=0, le=1)
    optimizer: Literal["adamw", "sgd"] | None = None
    learning_rate: float | None = Field(default=None, gt=0)
    learning_policy: Literal["cosine", "steps_with_decay"] = "cosine"
    step_ratios: list[Annotated[float, Field(ge=0, le=1)]] = [0.5, 0.8]
    gamma: float = Field(default=0.1, gt=0)
    warmup_iterations: int | None = Field(default=None, ge=0)
    train_iterations_base: int | None = Field(default=None, ge=1)
    train_iterations_step_size: int = Field(default=0, ge=0)
    step_image_number: int = Field(default=500, ge=1)
    train_batch_size: int = Field(default=IMAGES_A_STEP, ge=1)
    eval_period: int | None = Field(default=None, ge=1)
    checkpoint_period: int | None = Field(default=None, ge=1)
    num_workers: int | None = Field(default=None, ge=0)
    train_processes: int | None = Field(default=None, ge=1)
    weight_decay: float = Field(default=1e-4, ge=0)
    train_sampler: Literal["RepeatFactorTrainingSampler", "TrainingSampler"] = "RepeatFactorTrainingSampler"
    minority_classes: list[str] | None = None
    repeat_factor_smallest_class: float | None = Field(default=None, ge=0)

    @model_validator(mode="wrap")
    @classmethod
    def _with_preset(cls, content: Any, check: ModelWrapValidatorHandler[ProjectConfig]) -> ProjectConfig:
        """What the preset says where the file says nothing, as if nobody had set it, so that another preset says else.

        An unknown preset is left for its own check.
        """
        if not isinstance(content, dict):
            return check(content)
        left = {name for name in PERIODS if content.get(name) == ITS_DEFAULT}
        said = {name: value for name, value in content.items() if name not in left}
        config = check({**PRESETS.get(str(content.get("preset")), {}), **said})
        config.model_fields_set.intersection_update(said)
        return config

    @property
    def chooses_first_images(self) -> bool:
        """Whether the images before the first version are chosen; by chance where only the fake engine is to learn."""
        return self.first_images == "coverage" or (self.first_images is None and self.engine != "fake")

    @property
    def moves_near_copies(self) -> bool:
        """Whether near copies are looked for and come last; not where only the fake engine is to learn."""
        return self.near_copies == "last" or (self.near_copies is None and self.engine != "fake")

    def engine_config(self, device: str) -> EngineConfig:
        """The engine's part; without `network_config` what a new project gets on the device."""
        usual = DETECTRON2_NETWORK if self.engine == "detectron2" else NETWORKS.get(device, NETWORKS["cuda"])
        network = self.network_config or usual
        return EngineConfig(network, self.dropout_probability, self.confidence_threshold, self.nms_threshold)

    def scoring_config(self) -> ScoringConfig:
        """The scoring's part."""
        exact = self.scoring == "exact"
        return ScoringConfig(passes=self.mcd_iterations, iou_threshold=self.iou_thres, mode=self.mode, exact=exact)

    def remarks(self, classes: Sequence[str]) -> Iterator[str]:
        """A line for each setting that does nothing in a project of these classes."""
        if unknown := [name for name in self.minority_classes or () if name not in classes]:
            yield (
                f"minority_classes names {', '.join(map(repr, unknown))}, which the labelling config does not have, so "
                f"that no image is repeated; its labels are {', '.join(classes)}"
            )

    @property
    def has_seen_before(self) -> bool:
        """Whether learning starts from a network that has seen images before."""
        return self.engine != "fake" and self.pretrained_weights != "none"

    @property
    def looks_at_objects(self) -> bool:
        """Whether the strategy looks at what an untouched backbone sees in the images."""
        return self.strategy in BY_FEATURES and self.has_seen_before

    @property
    def falls_back(self) -> bool:
        """Whether the strategy is not what the file says, for want of a network that has seen before."""
        return self.strategy in BY_OBJECTS and not self.has_seen_before

    def pool_size_after(self, rounds: int) -> int:
        """Annotations that the next round waits for after so many have ended; a list's last number for all later."""
        if isinstance(self.pool_size, int):
            return self.pool_size
        return self.pool_size[min(max(rounds, 1), len(self.pool_size)) - 1]

    def ranking_config(self, rounds: int = 1) -> RankingConfig:
        """The queue's part; `rounds`: how many will have ended while it is served.

        In exact mode images without detections are served last, as they are never in MaskAL.
        """
        return RankingConfig(
            strategy="uncertainty" if self.falls_back else self.strategy,
            parts=Parts(self.coverage_uncertainty, self.coverage_class_turns, self.coverage_noise),
            without_detections=self.without_detections or ("last" if self.scoring == "exact" else "median"),
            random_share=self.random_share,
            batch=self.pool_size_after(rounds),
            rounds=self.planned_rounds,
        )

    def adapted(self, config: EngineConfig, known: InputRange | None, records: Sequence[Record]) -> EngineConfig:
        """An engine's config with input size, anchors and limit that fit the objects, if the network has a choice."""
        if known is None or not self.adapt_input:
            return config
        size = input_size(records, known)
        return replace(
            config,
            image_size=size,
            anchor_sizes=anchor_sizes(records, size, known),
            detections_per_image=objects_per_image(records, config.detections_per_image),
        )

    def training_config(
        self,
        network: str,
        records: Sequence[Record],
        *,
        warm: bool,
        seed: int,
        device: str = "cpu",
        keeping: Keeping = Keeping(),  # noqa: B008, it cannot be changed
    ) -> TrainingConfig:
        """A fully resolved training run on these records.

        `warm`: from a version of this project; `keeping`: what it leaves of the backbone where the file says nothing.
        """
        chosen = _choice(network)
        optimizer = self.optimizer or chosen.optimizer
        has_classes = len({outline.label for record in records for outline in record.outlines}) > 1
        base, growth = (chosen.warm_iterations, GROWTH) if warm else (chosen.iterations, chosen.growth)
        steps = self._iterations(len(records), base, growth if has_classes else GROWTH)
        warmup = self.warmup_iterations if self.warmup_iterations is not None else min(100, steps // 10)
        workers = self.num_workers if self.num_workers is not None else WORKERS.get(device.partition(":")[0], 1)
        return TrainingConfig(
            iterations=steps,
            learning_rate=self.learning_rate
            or chosen.rate(optimizer) * RATE_FOR_BATCH[optimizer](self.train_batch_size / IMAGES_A_STEP),
            batch_size=self.train_batch_size,
            freeze_at=keeping.freeze_at if self.freeze_at is None else self.freeze_at,
            backbone_rate=keeping.backbone_rate if self.backbone_rate is None else self.backbone_rate,
            warmup_iterations=warmup,
            weight_decay=self.weight_decay,
            optimizer=optimizer,
            learning_policy=self.learning_policy,
            step_ratios=tuple(self.step_ratios),
            gamma=self.gamma,
            repeat_factor_smallest_class=self._repeat_factor(records),
            minority_classes=None if self.minority_classes is None else tuple(self.minority_classes),
            replay=self.replay if warm else None,
            eval_period=self.eval_period or max(MIN_EVAL_PERIOD, math.ceil(steps / LOOKS)),
            patience=PATIENCE if self.early_stopping else 0,
            checkpoint_period=self.checkpoint_period,
            num_workers=workers,
            seed=seed,
        )

    def _iterations(self, images: int, base: int, growth: float) -> int:
        if self.train_iterations_base is None:
            return iterations_for(images, base, growth)
        return iterations(
            images,
            base=self.train_iterations_base,
            step_size=self.train_iterations_step_size,
            step_image_number=self.step_image_number,
        )

    def _repeat_factor(self, records: Sequence[Record]) -> float:
        if self.train_sampler == "TrainingSampler":
            return 0.0
        return (
            repeat_factor(records) if self.repeat_factor_smallest_class is None else self.repeat_factor_smallest_class
        )


@dataclass(frozen=True)
class TrainingChoice:
    """What a network trains with where the project's file says nothing.

    iterations, warm_iterations   for 30 images, from its start and from an earlier version
    growth   power by which the first grow with the number of images, where there are several classes
    """

    optimizer: str
    learning_rate: float
    iterations: int
    warm_iterations: int
    growth: float = GROWTH

    def rate(self, optimizer: str) -> float:
        """Learning rate for an optimizer at 4 images a step, also where it is not the network's own."""
        return self.learning_rate if optimizer == self.optimizer else RATES[optimizer]


TRAINING = {
    "lite": TrainingChoice("adamw", 5e-4, iterations=400, warm_iterations=150, growth=GROWTH_FOR_CLASSES),
    "nano": TrainingChoice("adamw", 5e-4, iterations=240, warm_iterations=150, growth=GROWTH_FOR_CLASSES),
    "timm": TrainingChoice("adamw", 2e-4, iterations=1000, warm_iterations=500),
    "default": TrainingChoice("sgd", 5e-3, iterations=1000, warm_iterations=500),
}
"""By the network's name, or what stands before its slash."""


def _choice(network: str) -> TrainingChoice:
    return TRAINING.get(network.partition("/")[0], TRAINING["default"])


RATES = {"adamw": 2e-4, "sgd": 5e-3}

RATE_FOR_BATCH: dict[str, Callable[[float], float]] = {"adamw": math.sqrt, "sgd": float}
"""How the learning rate follows the batch size: by its square root (Adam), or in proportion (Goyal et al. 2017)."""

WORKERS = {"cpu": 1, "cuda": 4}

MIN_EVAL_PERIOD = 20

LONGEST_VALUE = 80
"""Characters of a value that an error repeats."""


def read_config(path: Path) -> ProjectConfig:
    """Read a project's YAML file; BadSetting names each key, what came and what was wanted."""
    try:
        content = parse_settings(path.read_bytes())
    except yaml.reader.ReaderError as err:
        raise BadSetting(f"{path.name} cannot be read as YAML ({_line(err)}); save it as UTF-8") from err
    except (OSError, yaml.YAMLError) as err:
        raise BadSetting(f"{path.name} cannot be read as YAML: {_line(err)}") from err
    return check_config({} if content is None else content, path.name)


def check_config(content: Any, source: str) -> ProjectConfig:
    """Settings from plain data; BadSetting names each key of `source` that does not fit."""
    if not isinstance(content, dict):
        raise BadSetting(f"{source} should hold `name: value` lines, got a {type(content).__name__}")
    try:
        return ProjectConfig.model_validate(content)
    except ValidationError as err:
        raise BadSetting(f"{source}: {'; '.join(_complaints(err.errors()))}") from err


def _complaints(errors: Sequence[Any]) -> Iterator[str]:
    """What is wrong with each value, where MaskAL's names went, and once what names there are if some are unknown."""
    extra = [str(error["loc"][-1]) for error in errors if error["type"] == "extra_forbidden"]
    for error in errors:
        if error["type"] != "extra_forbidden":
            yield f"{'.'.join(str(part) for part in error['loc'])}: {error['msg']}, got {_short(error['input'])}"
    if (line := moved(extra)) is not None:
        yield line
    if unknown := [name for name in extra if name not in MOVED]:
        names = f"setting{'s' * (len(unknown) > 1)} {', '.join(map(_short, unknown))}"
        yield f"unknown {names}; known are {', '.join(sorted(ProjectConfig.model_fields))}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def _line(err: Exception) -> str:
    return " ".join(str(err).split())
