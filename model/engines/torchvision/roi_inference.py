"""What the heads of a network see in boxes of an image, with dropout where it is on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch.nn.functional import softmax
from torchvision.models.detection import MaskRCNN
from torchvision.ops import MultiScaleRoIAlign, clip_boxes_to_image

from model.engines.config import EngineConfig
from model.engines.selection import Selection, masks_of_any_class
from model.engines.torchvision.encoded import Encoded
from model.engines.torchvision.first_look import FirstLook, has_foreground, joined, worth_sampling
from model.engines.torchvision.mask_samples import group_boxes, mask_probabilities, read_boxes
from model.engines.torchvision.pooling import pool_boxes
from model.engines.torchvision.precision import computing, single

ROWS_PER_BATCH = {"cpu": 768, "cuda": 8192}
"""Box-head rows computed at once; what is larger than some 30 MB costs a CPU more to allocate than to compute."""

MASKS_AT_ONCE = 768
"""Detections whose masks are computed together: a multiple of the samples that a CPU, and a GPU, takes at once."""

LOOKED_AT_ONCE = 200
"""Proposals that a CPU's first look takes together."""


@dataclass(frozen=True, eq=False)
class RoIInference:
    """Runs a network's box and mask head; as published on an exact encoding, on another one as fast as it goes."""

    network: MaskRCNN
    config: EngineConfig

    def with_proposals(self, encoded: Encoded, boxes: torch.Tensor, exact: bool = True) -> Encoded:
        """The same image with the features in boxes (n, 4)."""
        heads = self.network.roi_heads
        with computing(boxes.device, exact):
            pooled = _pooled(heads.box_roi_pool, encoded, boxes, exact)
            rows = heads.box_head.stem(pooled)
            if torch.is_autocast_enabled(boxes.device.type):
                rows = rows.bfloat16()
        return replace(encoded, proposals=boxes, rows=rows)

    def looked_at(self, encoded: Encoded, boxes: torch.Tensor) -> Encoded:
        """The same image with a first look at boxes (n, 4), and no more proposals than are worth sampling.

        The best come first: a CPU looks at so many at once, until none of them shows anything.
        """
        parts: list[Encoded] = []
        looks: list[FirstLook] = []
        for some in boxes.split(LOOKED_AT_ONCE if boxes.device.type == "cpu" else max(len(boxes), 1)):
            parts.append(self.with_proposals(encoded, some, exact=False))
            with computing(boxes.device, exact=False):
                looks.append(self.first_look(parts[-1]))
            if not has_foreground(looks[-1], self.config.confidence_threshold).any():
                break
        look = joined(looks)
        worth = worth_sampling(look, self.config.confidence_threshold, self.config.detections_per_image)
        rows = torch.cat([part.rows for part in parts])
        return replace(encoded, proposals=look.proposals[worth], rows=rows[worth], first_look=look)

    def first_look(self, encoded: Encoded) -> FirstLook:
        """What the box head says of all proposals; dropout has to be off."""
        probabilities, boxes = self.boxes(encoded, 1)
        return FirstLook(probabilities[0], boxes[0], encoded.proposals)

    def boxes(self, encoded: Encoded, passes: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Foreground probabilities (t, n, c) and boxes (t, n, c, 4) in pixels of the input."""
        heads, n = self.network.roi_heads, len(encoded.proposals)
        at_once = max(1, ROWS_PER_BATCH.get(encoded.rows.device.type, ROWS_PER_BATCH["cpu"]) // max(n, 1))
        probabilities, boxes = [], []
        for start in range(0, passes, at_once):
            t = min(at_once, passes - start)
            logits, deltas = heads.box_predictor(heads.box_head.tail(encoded.rows.expand(t, -1, -1)))
            decoded = heads.box_coder.decode(single(deltas).flatten(0, 1), [encoded.proposals.repeat(t, 1)])
            every = decoded.view(t, n, deltas.shape[-1] // 4, 4)
            probabilities.append(softmax(single(logits), -1)[..., 1:])
            boxes.append(clip_boxes_to_image(every, encoded.resized_hw)[:, :, 1:])
        return torch.cat(probabilities), torch.cat(boxes)

    def masks(
        self, encoded: Encoded, boxes: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Mask probabilities (n, m, m) in boxes (n, 4): those of labels (n,), or with weights (n, c) of all classes."""
        heads = self.network.roi_heads
        pooled = _pooled(heads.mask_roi_pool, encoded, boxes, encoded.is_exact)
        logits = single(heads.mask_predictor(heads.mask_head(pooled)))
        if weights is None:
            rows = torch.arange(len(labels), device=labels.device)
            return logits[rows, labels + 1].sigmoid()  # background is channel 0
        return masks_of_any_class(logits[:, 1:].sigmoid(), weights)

    def masks_of_passes(self, encoded: Encoded, every: Selection) -> torch.Tensor:
        """Mask probabilities (n, m, m) of the detections of all passes."""
        if encoded.is_exact:
            columns = (values.split(MASKS_AT_ONCE) for values in (every.boxes_xyxy, every.labels))
            return torch.cat([self.masks(encoded, *some) for some in zip(*columns, strict=True)])
        heads = self.network.roi_heads
        objects, belongs_to = group_boxes(every.boxes_xyxy, every.scores)
        pooled = _pooled(heads.mask_roi_pool, encoded, objects, exact=False)
        trunk = heads.mask_head(pooled.contiguous(memory_format=torch.channels_last))
        columns = (values.split(MASKS_AT_ONCE) for values in (belongs_to, every.boxes_xyxy, every.labels))
        masks = [
            mask_probabilities(heads.mask_predictor, read_boxes(trunk, objects, own, boxes), labels)
            for own, boxes, labels in zip(*columns, strict=True)
        ]
        return torch.cat(masks)


def _pooled(pooler: MultiScaleRoIAlign, encoded: Encoded, boxes: torch.Tensor, exact: bool) -> torch.Tensor:
    """Features (n, c, m, m) in boxes (n, 4); where it need not be exact a CPU has a faster way."""
    if exact or boxes.device.type != "cpu":
        pooled: torch.Tensor = pooler(encoded.features, [boxes], [encoded.resized_hw])
        return pooled
    return pool_boxes(pooler, encoded.features, boxes)
