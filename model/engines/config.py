"""What an engine is built with, and what is to be known of it before; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class InputRange:
    """What a network can take.

    shortest, longest   sides of its usual input, pixels
    largest             longest side that is affordable where objects are small, pixels
    visible             side of an object at which it is found well, pixels of the input
    anchor              usual smallest anchor, pixels of the input
    """

    shortest: int
    longest: int
    largest: int
    visible: float
    anchor: float


@dataclass(frozen=True)
class Keeping:
    """What training leaves of a backbone as it was, where it has learned to see before.

    freeze_at      so many of its stages, from the stem on, are not trained
    backbone_rate  the others learn at this share of the learning rate, 0..1
    """

    freeze_at: int = 0
    backbone_rate: float = 1.0


@dataclass(frozen=True)
class EngineConfig:
    """Which network to build and how its detections are selected.

    network               builder's name in the engine's own table
    dropout_probability   of MaskAL's dropout layers, 0..1
    confidence_threshold  a detection needs a strictly higher score
    nms_threshold         IoU above which the weaker of two boxes goes, across all classes together
    detections_per_image  at most so many, by score
    image_size            shortest and longest side of the network's input in pixels, None for its usual one
    anchor_sizes          side of the anchors of each feature level, pixels of the input; None for the usual ones
    network_facts         what the network's own file, or timm, said of it once (JSON); None where the name says all
    """

    network: str = "nano"
    dropout_probability: float = 0.25
    confidence_threshold: float = 0.5
    nms_threshold: float = 0.2
    detections_per_image: int = 100
    image_size: tuple[int, int] | None = None
    anchor_sizes: tuple[float, ...] | None = None
    network_facts: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in ("dropout_probability", "confidence_threshold", "nms_threshold"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must lie in 0..1, got {value}")
        if self.detections_per_image < 1:
            raise ValueError(f"detections_per_image must be at least 1, got {self.detections_per_image}")
