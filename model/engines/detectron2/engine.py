"""Detectron2's own Mask R-CNN with MaskAL's dropout heads, where Detectron2 is installed.

Imported by the loader alone. It computes everything in full precision; what a fast score spares are whole masks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import dropwhile, takewhile
from typing import Any

import numpy as np
import torch
from detectron2.structures import BitMasks, Boxes
from detectron2.structures import Instances as TheirInstances
from detectron2.utils.events import EventStorage
from torch.nn.functional import softmax
from torchvision.ops import clip_boxes_to_image

from model.engines.base import EngineConfig, InputRange, Keeping, Target
from model.engines.detectron2.network import build_network, is_not_dropout, settings_for, with_settings
from model.engines.detectron2.weights import with_statistics
from model.engines.float32 import leave_tf32
from model.engines.passes import together
from model.engines.pasting import paste_masks
from model.engines.results import detections, detections_of_passes, in_original_pixels, instances, instances_of_passes
from model.engines.selection import masks_of_any_class, proposals_of, propose_places
from model.errors import BadCheckpoint, BadEngine
from model.instances import CoarseInstances, Instances, Proposals
from model.scaling import DETECTRON2

ROWS_AT_ONCE = {"cpu": 1000, "cuda": 8000}
"""Rows of the box head that are computed together."""

CLASS_ROWS = {
    "roi_heads.box_predictor.cls_score": 1,
    "roi_heads.box_predictor.bbox_pred": 4,
    "roi_heads.mask_head.predictor": 1,
}
"""Layers with outputs per class, and how many rows a class has there; the background comes last, if at all."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """All of an image that dropout does not touch.

    features    level name -> (1, c, h, w)
    proposals   (n, 4) in pixels of the input; rows (n, d) their box features before the first dropout
    resized_hw, original_hw   sizes of the input (without padding) and of the image
    """

    features: dict[str, torch.Tensor]
    proposals: torch.Tensor
    rows: torch.Tensor
    is_exact: bool
    resized_hw: tuple[int, int]
    original_hw: tuple[int, int]


class Detectron2Engine:
    """One Mask R-CNN of Detectron2's with an FPN; see `base.Engine` for the protocol."""

    name = "detectron2"
    scaling = DETECTRON2

    def __init__(self, classes: Sequence[str], config: EngineConfig) -> None:
        if not classes:
            raise BadEngine("an engine needs at least one class, got none; add labels to the labelling config")
        self.classes = tuple(classes)
        self.settings = settings_for(config, len(self.classes))
        self.config = with_settings(config, self.settings)
        self.network: Any = build_network(self.settings, config.dropout_probability).eval()

    @property
    def input_range(self) -> InputRange | None:
        """What input the network can take; None where its anchors are not one size a level, each twice the last."""
        sizes = self.settings.MODEL.ANCHOR_GENERATOR.SIZES
        first = sizes[0][0]
        if any(list(own) != [first * 2**level] for level, own in enumerate(sizes)):
            return None
        shortest, longest = self.settings.INPUT.MIN_SIZE_TEST, self.settings.INPUT.MAX_SIZE_TEST
        return InputRange(shortest, longest, round(longest * 1.25), visible=first / 2, anchor=round(first))

    @property
    def training_size_hw(self) -> tuple[int, int]:
        """Shortest and longest side of the network's input in pixels."""
        usual = (self.settings.INPUT.MIN_SIZE_TEST, self.settings.INPUT.MAX_SIZE_TEST)
        return self.config.image_size or usual

    @torch.no_grad()
    def encode(self, images: Sequence[np.ndarray], *, exact: bool = False) -> list[Encoded]:
        """Backbone, proposals and pooled box features of RGB uint8 (h, w, 3) images, one after the other."""
        self.network.eval()
        return [self._encode(image, exact) for image in images]

    def _encode(self, image: np.ndarray, exact: bool) -> Encoded:
        features, inputs = self._features(image)
        proposals = self.network.proposal_generator(inputs, features, None)[0][0].proposal_boxes
        heads = self.network.roi_heads
        rows = heads.box_pooler([features[name] for name in heads.box_in_features], [proposals])
        for layer in takewhile(is_not_dropout, heads.box_head):
            rows = layer(rows)
        return Encoded(features, proposals.tensor, rows, exact, inputs.image_sizes[0], image.shape[:2])

    def _features(self, image: np.ndarray) -> tuple[dict[str, torch.Tensor], Any]:
        """Feature levels of an RGB uint8 image, and Detectron2's list with the scaled image."""
        scaled = self.scaling.image(image, self.scaling.size(image.shape[:2], *self.training_size_hw))
        inputs = self.network.preprocess_image([{"image": self._pixels(torch.from_numpy(scaled).permute(2, 0, 1))}])
        return self.network.backbone(inputs.tensor), inputs

    def _pixels(self, image: torch.Tensor) -> torch.Tensor:
        """RGB of 0..255, (3, h, w), in the order of the config."""
        return (image.flip(0) if self.settings.INPUT.FORMAT == "BGR" else image).float()

    @torch.no_grad()
    def decode(
        self, encoded: Encoded, *, confidence_threshold: float | None = None, any_class: bool = False
    ) -> Instances:
        """The ordinary prediction; dropout has to be off."""
        probabilities, boxes = self._box_head(encoded, 1)
        selection = detections(probabilities[0], boxes[0], self.config, confidence_threshold, any_class)
        weights = probabilities[0][selection.proposals]
        masks = self._masks(encoded, selection.boxes_xyxy, selection.labels, weights if any_class else None)
        return instances(encoded, selection, weights, masks)

    @torch.no_grad()
    def sample(self, encoded: Encoded, passes: int) -> tuple[Instances, ...] | tuple[CoarseInstances, ...]:
        """The instances of each pass; the heads run over the stacked rows of all passes."""
        probabilities, boxes = self._box_head(encoded, passes)
        found = detections_of_passes(encoded, probabilities, boxes, self.config)
        every = together(found)
        masks = self._masks(encoded, every.boxes_xyxy, every.labels, None)
        return instances_of_passes(encoded, found, probabilities, masks)

    @torch.no_grad()
    def propose(self, encoded: Encoded, passes: int) -> Proposals:
        """What may be an object in the mean of the passes."""
        probabilities, boxes = self._box_head(encoded, passes)
        found = propose_places(boxes.mean(0), probabilities.mean(0), self.config.nms_threshold)
        return proposals_of(in_original_pixels(encoded, found.boxes_xyxy), probabilities[:, found.proposals])

    def predict(self, image: np.ndarray, *, confidence_threshold: float | None = None) -> Instances:
        """The ordinary prediction for one RGB uint8 (h, w, 3) image."""
        [encoded] = self.encode([image], exact=True)
        return self.decode(encoded, confidence_threshold=confidence_threshold)

    def embedding(self, encoded: Encoded) -> np.ndarray:
        """Mean and spread of the coarsest pooled level, (2 * c,) float32 of length 1."""
        level = encoded.features[self.network.roi_heads.box_in_features[-1]][0]
        vector = torch.cat([level.mean((1, 2)), level.std((1, 2))])
        return np.asarray((vector / vector.norm().clamp(min=1e-12)).cpu().numpy(), np.float32)

    @torch.no_grad()
    def features(self, image: np.ndarray) -> Encoded:
        """The backbone's features, without proposals."""
        self.network.eval()
        features, inputs = self._features(image)
        none = inputs.tensor.new_zeros(0, 4)
        return Encoded(features, none, none, True, inputs.image_sizes[0], image.shape[:2])

    @torch.no_grad()
    def segment(self, features: Encoded, box_xyxy: np.ndarray, label: int | None) -> np.ndarray:
        """The mask head's answer (h, w) bool for one box (4,) in the original image's pixels.

        Without a label it is the mean over the classes, weighed by what the box head sees in the box.
        """
        (h, w), (resized_h, resized_w) = features.original_hw, features.resized_hw
        levels = features.features
        box = torch.as_tensor(box_xyxy, dtype=torch.float32, device=next(iter(levels.values())).device)[None]
        resized, weights = box * box.new_tensor([resized_w / w, resized_h / h] * 2), None
        if label is None:
            heads = self.network.roi_heads
            pooled = heads.box_pooler([levels[name] for name in heads.box_in_features], [Boxes(resized)])
            weights = softmax(heads.box_predictor(heads.box_head(pooled))[0][:, :-1], -1)
        masks = self._masks(features, resized, torch.tensor([label or 0], device=box.device), weights)
        return paste_masks(masks, box, (h, w))[0]

    def _box_head(self, encoded: Encoded, passes: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Foreground probabilities (t, n, c) and boxes (t, n, c, 4) in pixels of the input."""
        heads, n, c = self.network.roi_heads, len(encoded.proposals), len(self.classes)
        at_once = max(1, ROWS_AT_ONCE.get(encoded.rows.device.type, 1000) // max(n, 1))
        probabilities, boxes = [], []
        for start in range(0, passes, at_once):
            t = min(at_once, passes - start)
            rows = encoded.rows.repeat(t, 1)
            for layer in dropwhile(is_not_dropout, heads.box_head):
                rows = layer(rows)
            logits, deltas = heads.box_predictor(rows)
            decoded = heads.box_predictor.box2box_transform.apply_deltas(deltas, encoded.proposals.repeat(t, 1))
            probabilities.append(softmax(logits, -1)[:, :-1].view(t, n, c))
            boxes.append(clip_boxes_to_image(decoded.view(t, n, c, 4), encoded.resized_hw))
        return torch.cat(probabilities), torch.cat(boxes)

    def _masks(
        self, encoded: Encoded, boxes: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None
    ) -> torch.Tensor:
        """Mask probabilities (n, m, m) in boxes (n, 4): those of labels (n,), or with weights (n, c) of all classes."""
        heads = self.network.roi_heads
        pooled = heads.mask_pooler([encoded.features[name] for name in heads.mask_in_features], [Boxes(boxes)])
        masks = heads.mask_head.layers(pooled).sigmoid()  # (n, c, m, m)
        if weights is None:
            return masks[torch.arange(len(labels), device=labels.device), labels]
        return masks_of_any_class(masks, weights)

    def losses(self, images: Sequence[torch.Tensor], targets: Sequence[Target]) -> dict[str, torch.Tensor]:
        """Detectron2's losses by name; images are float (3, h, w) in 0..1, reviewed-empty ones included."""
        self.network.train()
        inputs = []
        for image, target in zip(images, targets, strict=True):
            truth = TheirInstances(tuple(image.shape[-2:]))
            truth.gt_boxes, truth.gt_classes = Boxes(target.boxes_xyxy), target.labels
            truth.gt_masks = BitMasks(target.masks.bool())
            inputs.append({"image": self._pixels(image * 255), "instances": truth})
        with EventStorage():
            losses: dict[str, torch.Tensor] = self.network(inputs)
        return losses

    def tensors(self) -> dict[str, torch.Tensor]:
        """All weights and buffers by Detectron2's names."""
        return dict(self.network.state_dict())

    def load_tensors(self, tensors: Mapping[str, torch.Tensor], classes: Sequence[str]) -> None:
        """Take over weights trained for `classes`; rows of classes that both know are kept, by name.

        Of a backbone alone the heads stay as they are. Raises BadCheckpoint if they are not of this network.
        """
        own, other = self.tensors(), with_statistics(tensors)
        if other and all(name.startswith("backbone.") for name in other):
            other = {**own, **other}
        self.network.load_state_dict({name: self._fitted(name, own[name], other, tuple(classes)) for name in own})

    def _fitted(
        self, name: str, own: torch.Tensor, others: Mapping[str, torch.Tensor], classes: tuple[str, ...]
    ) -> torch.Tensor:
        other = others.get(name)
        if name.endswith("num_batches_tracked") and other is None:
            return own
        rows = CLASS_ROWS.get(name.rpartition(".")[0])
        if other is not None and rows is not None and classes != self.classes:
            background = len(own) - rows * len(self.classes)
            if len(other) == rows * len(classes) + background and own.shape[1:] == other.shape[1:]:
                return _by_class(own, self.classes, other, classes, rows)
        if other is None or other.shape != own.shape:
            got = "nothing" if other is None else f"shape {tuple(other.shape)}"
            raise BadCheckpoint(
                f"weights do not fit network {self.config.network!r}: {name} should have shape {tuple(own.shape)}, got "
                f"{got}; choose the network and the classes that the file was trained with"
            )
        return other

    def backbone_stages(self) -> list[list[torch.nn.Parameter]]:
        """Parameters of the ResNet below the FPN: the stem, then its stages."""
        resnet = self.network.backbone.bottom_up
        return [list(part.parameters()) for part in (resnet.stem, *resnet.stages)]

    @property
    def keeping(self) -> Keeping:
        """What the config says."""
        return Keeping(max(self.settings.MODEL.BACKBONE.FREEZE_AT, 0))

    @property
    def has_coco_weights(self) -> bool:
        """Nothing is downloaded."""
        return False

    def load_coco(self) -> None:
        """Refused: Detectron2's files are the user's to fetch."""
        raise BadEngine(
            "engine 'detectron2' downloads no COCO weights; set pretrained_weights to the path of Detectron2's file"
        )

    @property
    def has_imagenet_weights(self) -> bool:
        """Nothing is downloaded."""
        return False

    def load_imagenet(self) -> None:
        """Refused: Detectron2's files are the user's to fetch."""
        raise BadEngine(
            "engine 'detectron2' downloads no ImageNet weights; set pretrained_weights to the path of Detectron2's file"
        )

    def to(self, device: str) -> Detectron2Engine:
        """Move the network to a device and return the engine; on a GPU full precision is float32, not TF32."""
        leave_tf32(device)
        self.network.to(device)
        return self


def _by_class(
    own: torch.Tensor, own_classes: tuple[str, ...], other: torch.Tensor, other_classes: tuple[str, ...], rows: int
) -> torch.Tensor:
    """Rows of the classes that both know and of the background, which comes last; the rest are its own."""
    merged = own.clone()
    merged[rows * len(own_classes) :] = other[rows * len(other_classes) :]
    for new, label in enumerate(own_classes):
        if label in other_classes:
            old = other_classes.index(label)
            merged[new * rows : (new + 1) * rows] = other[old * rows : (old + 1) * rows]
    return merged
