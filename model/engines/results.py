"""From the raw output of an engine's heads to instances in the original image's pixels; the same for every engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torchvision.ops import clip_boxes_to_image

from model.engines.config import EngineConfig
from model.engines.passes import coarse_passes
from model.engines.pasting import paste_masks
from model.engines.selection import Selection, select
from model.instances import CoarseInstances, Instances


class Seen(Protocol):
    """What has to be known of an image that an engine has encoded."""

    @property
    def resized_hw(self) -> tuple[int, int]:
        """Of the network's input, without padding."""
        ...

    @property
    def original_hw(self) -> tuple[int, int]:
        """Of the image."""
        ...

    @property
    def is_exact(self) -> bool:
        """Whether it is as published, in full precision."""
        ...


def detections(
    probabilities: torch.Tensor,
    boxes: torch.Tensor,
    config: EngineConfig,
    confidence_threshold: float | None = None,
    any_class: bool = False,
) -> Selection:
    """What one look at (n, c) probabilities and (n, c, 4) boxes finds, by the config's thresholds unless given."""
    return select(
        boxes,
        probabilities,
        confidence_threshold=config.confidence_threshold if confidence_threshold is None else confidence_threshold,
        nms_threshold=config.nms_threshold,
        limit=config.detections_per_image,
        any_class=any_class,
    )


def detections_of_passes(
    seen: Seen, probabilities: torch.Tensor, boxes: torch.Tensor, config: EngineConfig
) -> list[Selection]:
    """What each pass finds in (t, n, c) probabilities and (t, n, c, 4) boxes.

    Unless it has to be exact: where no pass finds an object of a sure class, those that are there whatever their class.
    """
    pairs = list(zip(probabilities, boxes, strict=True))
    found = [detections(*pair, config) for pair in pairs]
    if seen.is_exact or any(len(selection.labels) for selection in found):
        return found
    return [detections(*pair, config, any_class=True) for pair in pairs]


def in_original_pixels(seen: Seen, boxes: torch.Tensor) -> torch.Tensor:
    """Boxes (n, 4) in pixels of the network's input as they lie in the image, cut at its rim."""
    (h, w), (resized_h, resized_w) = seen.original_hw, seen.resized_hw
    return clip_boxes_to_image(boxes * boxes.new_tensor([w / resized_w, h / resized_h] * 2), (h, w))


def instances(seen: Seen, selection: Selection, softmaxes: torch.Tensor, masks: torch.Tensor) -> Instances:
    """Detections with softmaxes (n, c) and mask probabilities (n, m, m) in the image's pixels."""
    boxes = in_original_pixels(seen, selection.boxes_xyxy)
    kept = (boxes[:, 2:] > boxes[:, :2]).all(1)  # a box beyond the image's rim is clipped to nothing
    return Instances(
        boxes_xyxy=boxes[kept].float().cpu().numpy(),
        scores=selection.scores[kept].float().cpu().numpy(),
        labels=selection.labels[kept].cpu().numpy(),
        softmaxes=softmaxes[kept].float().cpu().numpy(),
        masks=paste_masks(masks[kept], boxes[kept], seen.original_hw),
    )


def instances_of_passes(
    seen: Seen, found: Sequence[Selection], probabilities: torch.Tensor, masks: torch.Tensor
) -> tuple[Instances, ...] | tuple[CoarseInstances, ...]:
    """Each pass's instances; mask probabilities (n, m, m) are those of all passes, one after the other.

    An exact encoding gives whole masks, another one masks on a coarse grid.
    """
    softmaxes = [own[selection.proposals] for own, selection in zip(probabilities, found, strict=True)]
    if seen.is_exact:
        parts = zip(found, softmaxes, masks.split([len(selection.labels) for selection in found]), strict=True)
        return tuple(instances(seen, *part) for part in parts)
    boxes = in_original_pixels(seen, torch.cat([selection.boxes_xyxy for selection in found]))
    return coarse_passes(found, softmaxes, masks, boxes, seen.original_hw)
