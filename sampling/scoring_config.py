"""How images are scored; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from sampling.uncertainty import MODES


@dataclass(frozen=True)
class ScoringConfig:
    """How an image is scored.

    passes         number of dropout samples
    iou_threshold  mask IoU above which two detections are one object
    mode           mean, min or max over the objects
    exact          MaskAL to the digit, with its faults, instead of the fast and mended way
    """

    passes: int = 10
    iou_threshold: float = 0.5
    mode: str = "mean"
    exact: bool = False

    def __post_init__(self) -> None:
        if self.passes < 1:
            raise ValueError(f"passes must be at least 1, got {self.passes}")
        if not 0 <= self.iou_threshold <= 1:
            raise ValueError(f"iou_threshold must lie in 0..1, got {self.iou_threshold}")
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {self.mode!r}")
