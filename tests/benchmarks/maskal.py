"""MaskAL's scoring loop read plainly (MASKAL's published method, section by section): slow, for comparison only.

As the original it works on whole masks at the original image's resolution, with torch's own operations.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from model.engines.torchvision.engine import TorchvisionEngine
from sampling.uncertainty import ObservationCertainty, box_certainty, occurrence, semantic_certainty

Detection = tuple[np.ndarray, np.ndarray, torch.Tensor]
"""Box (4,), softmax (c,), mask (h, w) bool at full resolution."""


def score_plainly(
    engine: TorchvisionEngine, image: np.ndarray, passes: int, seed: int, iou_threshold: float = 0.5
) -> float:
    """Certainty of an image: features once, then pass after pass, whole masks, all pairs compared pixel by pixel."""
    torch.manual_seed(seed)
    [encoded] = engine.encode([image], exact=True)
    layers = [layer for layer in engine.network.modules() if isinstance(layer, nn.Dropout)]
    for layer in layers:
        layer.train()  # without a generator of its own it is torch's plain dropout
    found = [engine.sample(encoded, 1)[0] for _ in range(passes)]
    for layer in layers:
        layer.eval()
    groups: list[list[Detection]] = []
    for one in found:
        masks = torch.from_numpy(one.masks).to(engine.device)
        for detection in zip(one.boxes_xyxy, one.softmaxes, masks, strict=True):
            for group in groups:
                if _iou(group[0][2], detection[2]) > iou_threshold:
                    group.append(detection)
                    break
            else:
                groups.append([detection])
    values = [_certainty(group, passes) for group in groups]
    return float(np.mean(values)) if values else float("nan")


def _iou(a: torch.Tensor, b: torch.Tensor) -> float:
    union = torch.logical_or(a, b).sum()
    return float(torch.logical_and(a, b).sum() / union) if union else float("inf")


def _certainty(group: list[Detection], passes: int) -> float:
    masks = [mask for _, _, mask in group]
    support = torch.stack([mask.float() for mask in masks]).mean(0) >= 0.25
    ious = [_iou(support, mask) for mask in masks if (support | mask).any()]
    factors = ObservationCertainty(
        semantic=semantic_certainty(np.stack([softmax for _, softmax, _ in group])),
        box=box_certainty(np.stack([box for box, _, _ in group])),
        mask=float(np.clip(sum(ious) / len(group), 0, 1)) if ious else float("nan"),
        occurrence=occurrence(len(group), passes),
    )
    return factors.certainty
