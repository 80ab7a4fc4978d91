"""The default engine: torchvision's Mask R-CNN with MaskAL's dropout heads."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import softmax
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import clip_boxes_to_image

from model.engines.base import EngineConfig, Target
from model.engines.networks import NORM_IS_FROZEN, build_network, find_network, train_mode
from model.engines.pasting import paste_masks
from model.engines.selection import Selection, select
from model.errors import BadCheckpoint, BadEngine
from model.instances import Instances

logger = logging.getLogger(__name__)

ROWS_PER_BATCH = 4096
"""Box-head rows computed at once: the passes of one image are cut into batches of about this many rows."""

CLASS_ROWS = {
    "roi_heads.box_predictor.cls_score": 1,
    "roi_heads.box_predictor.bbox_pred": 4,
    "roi_heads.mask_predictor.mask_fcn_logits": 1,
}
"""Layers with outputs per class, and how many rows a class has there (background is class 0)."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """All of an image that dropout does not touch.

    features    FPN level name -> (1, c, h, w)
    proposals   (n, 4) boxes in the resized image's pixels
    pooled      (n, c, 7, 7) box features
    resized_hw, original_hw   sizes of the network's input (without padding) and of the image
    """

    features: dict[str, torch.Tensor]
    proposals: torch.Tensor
    pooled: torch.Tensor
    resized_hw: tuple[int, int]
    original_hw: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Features:
    """What `segment` needs of an image: FPN level name -> (1, c, h, w), and the sizes as in Encoded."""

    levels: dict[str, torch.Tensor]
    resized_hw: tuple[int, int]
    original_hw: tuple[int, int]


class TorchvisionEngine:
    """One torchvision Mask R-CNN; see `base.Engine` for the protocol."""

    name = "torchvision"

    def __init__(self, classes: Sequence[str], config: EngineConfig) -> None:
        if not classes:
            raise BadEngine("an engine needs at least one class, got none; add labels to the labelling config")
        self.classes = tuple(classes)
        self.config = config
        self.network = build_network(config.network, len(self.classes), config.dropout_probability).eval()
        self.network.backbone.to(memory_format=torch.channels_last)

    @property
    def training_size_hw(self) -> tuple[int, int]:
        """Shortest and longest side of the network's input in pixels."""
        transform = self.network.transform
        return transform.min_size[-1], transform.max_size

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = next(self.network.parameters()).device
        return device

    @torch.no_grad()
    def encode(self, image: np.ndarray) -> Encoded:
        """Backbone, proposals and pooled box features of one RGB uint8 (h, w, 3) image."""
        images = self._resized(image)
        features = self.network.backbone(images.tensors)
        proposals = self.network.rpn(images, features)[0][0]
        pooled = self.network.roi_heads.box_roi_pool(features, [proposals], images.image_sizes)
        return Encoded(features, proposals, pooled, tuple(images.image_sizes[0]), image.shape[:2])

    def _resized(self, image: np.ndarray) -> ImageList:
        """The network's input for one RGB uint8 (h, w, 3) image: scaled, normalised and padded."""
        self.network.eval()
        tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).to(self.device).float() / 255
        images: ImageList = self.network.transform([tensor])[0]
        images.tensors = images.tensors.contiguous(memory_format=torch.channels_last)
        return images

    @torch.no_grad()
    def decode(
        self, encoded: Encoded, passes: int, *, confidence_threshold: float | None = None, any_class: bool = False
    ) -> tuple[Instances, ...]:
        """The instances of each pass; the heads run once over the rows of all passes.

        Every row draws its own dropout, so this is the same distribution as one run per pass.
        """
        threshold = self.config.confidence_threshold if confidence_threshold is None else confidence_threshold
        probabilities, boxes = self._box_head(encoded, passes)
        selections = [self._select(p, b, threshold, any_class) for p, b in zip(probabilities, boxes, strict=True)]
        masks = self._mask_head(encoded, selections, probabilities if any_class else None)
        results = []
        for selection, probability, mask in zip(selections, probabilities, masks, strict=True):
            results.append(self._instances(encoded, selection, probability, mask))
        return tuple(results)

    def predict(self, image: np.ndarray, *, confidence_threshold: float | None = None) -> Instances:
        """The ordinary prediction for one RGB uint8 (h, w, 3) image."""
        return self.decode(self.encode(image), 1, confidence_threshold=confidence_threshold)[0]

    @torch.no_grad()
    def features(self, image: np.ndarray) -> Features:
        """The backbone's features alone, in bfloat16 where the hardware computes with it."""
        images = self._resized(image)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=has_bfloat16(self.device)):
            levels = self.network.backbone(images.tensors)
        return Features(levels, tuple(images.image_sizes[0]), image.shape[:2])

    @torch.no_grad()
    def segment(self, features: Features, box_xyxy: np.ndarray, label: int | None) -> np.ndarray:
        """The mask head's answer (h, w) bool for one box (4,) in the original image's pixels.

        Without a label it is the mean over the classes, weighed by what the box head sees in the box.
        """
        heads, (h, w), (resized_h, resized_w) = self.network.roi_heads, features.original_hw, features.resized_hw
        box = torch.as_tensor(box_xyxy, dtype=torch.float32, device=self.device)[None]
        resized = [box * box.new_tensor([resized_w / w, resized_h / h] * 2)]
        levels = {name: level.float() for name, level in features.levels.items()}
        pooled = heads.mask_roi_pool(levels, resized, [features.resized_hw])
        masks = heads.mask_predictor(heads.mask_head(pooled))[0, 1:].sigmoid()  # (1, 1 + c, m, m) -> (c, m, m)
        if label is None:
            seen = heads.box_head(heads.box_roi_pool(levels, resized, [features.resized_hw]))
            weights = softmax(heads.box_predictor(seen)[0][0, 1:], -1)
            mask = torch.einsum("c,chw->hw", weights, masks)
        else:
            mask = masks[label]
        return paste_masks(mask[None], box, (h, w))[0]

    def _box_head(self, encoded: Encoded, passes: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Foreground probabilities (t, n, c) and boxes (t, n, c, 4) in the resized image's pixels."""
        heads, n, c = self.network.roi_heads, len(encoded.proposals), len(self.classes)
        at_once = max(1, ROWS_PER_BATCH // max(n, 1))
        probabilities, boxes = [], []
        for start in range(0, passes, at_once):
            t = min(at_once, passes - start)
            hidden = heads.box_head(encoded.pooled.repeat(t, 1, 1, 1))
            logits, deltas = heads.box_predictor(hidden)
            decoded = heads.box_coder.decode(deltas, [encoded.proposals.repeat(t, 1)])  # (t * n, 1 + c, 4)
            probabilities.append(softmax(logits, -1)[:, 1:].reshape(t, n, c))
            boxes.append(clip_boxes_to_image(decoded, encoded.resized_hw)[:, 1:].reshape(t, n, c, 4))
        return torch.cat(probabilities), torch.cat(boxes)

    def _select(self, probabilities: torch.Tensor, boxes: torch.Tensor, threshold: float, any_class: bool) -> Selection:
        return select(
            boxes,
            probabilities,
            confidence_threshold=threshold,
            nms_threshold=self.config.nms_threshold,
            limit=self.config.detections_per_image,
            any_class=any_class,
        )

    def _mask_head(
        self, encoded: Encoded, selections: Sequence[Selection], weights: torch.Tensor | None
    ) -> tuple[torch.Tensor, ...]:
        """Mask probabilities (n, m, m) of each pass's own detections, all passes in one batch.

        Those of the detection's label, or with weights (t, proposals, c) the mean over the classes.
        """
        heads = self.network.roi_heads
        boxes = torch.cat([s.boxes_xyxy for s in selections])
        labels = torch.cat([s.labels for s in selections])
        pooled = heads.mask_roi_pool(encoded.features, [boxes], [encoded.resized_hw])
        logits = heads.mask_predictor(heads.mask_head(pooled))
        if weights is None:
            rows = torch.arange(len(labels), device=labels.device)
            masks = logits[rows, labels + 1].sigmoid()  # background is channel 0
        else:
            shares = torch.cat([w[s.proposals] for w, s in zip(weights, selections, strict=True)])  # (n, c)
            shares = shares / shares.sum(1, keepdim=True)
            masks = torch.einsum("nc,nchw->nhw", shares, logits[:, 1:].sigmoid())
        return torch.split(masks, [len(s.labels) for s in selections])

    @staticmethod
    def _instances(
        encoded: Encoded, selection: Selection, probabilities: torch.Tensor, masks: torch.Tensor
    ) -> Instances:
        (h, w), (resized_h, resized_w) = encoded.original_hw, encoded.resized_hw
        scale = selection.boxes_xyxy.new_tensor([w / resized_w, h / resized_h] * 2)
        boxes = clip_boxes_to_image(selection.boxes_xyxy * scale, (h, w))
        return Instances(
            boxes_xyxy=boxes.float().cpu().numpy(),
            scores=selection.scores.float().cpu().numpy(),
            labels=selection.labels.cpu().numpy(),
            softmaxes=probabilities[selection.proposals].float().cpu().numpy(),
            masks=paste_masks(masks, boxes, (h, w)),
        )

    def losses(self, images: Sequence[torch.Tensor], targets: Sequence[Target]) -> dict[str, torch.Tensor]:
        """torchvision's five losses by name; images are float (3, h, w) in 0..1, reviewed-empty ones included."""
        train_mode(self.network)
        device = self.device
        dicts = [
            {"boxes": t.boxes_xyxy.to(device), "labels": t.labels.to(device) + 1, "masks": t.masks.to(device)}
            for t in targets
        ]
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            losses: dict[str, torch.Tensor] = self.network([image.to(device) for image in images], dicts)
        return losses

    def tensors(self) -> dict[str, torch.Tensor]:
        """All weights and buffers by torchvision's names."""
        return dict(self.network.state_dict())

    def load_tensors(self, tensors: Mapping[str, torch.Tensor], classes: Sequence[str]) -> None:
        """Take over weights trained for `classes`; rows of classes that both know are kept, by name.

        Weights that were not trained here freeze the batch norm. Raises BadCheckpoint if they are not of
        this network.
        """
        own = self.network.state_dict()
        optional = {name: value for name, value in own.items() if name.endswith("num_batches_tracked")}
        tensors = {**optional, NORM_IS_FROZEN: torch.tensor(True), **tensors}
        missing = sorted(own.keys() - tensors.keys())
        if missing:
            raise BadCheckpoint(
                f"weights do not fit network {self.config.network!r}: {len(missing)} tensors are missing, the "
                f"first is {missing[0]!r}; choose the network that the file was trained with"
            )
        merged = {name: self._merge(name, own[name], tensors[name], tuple(classes)) for name in own}
        self.network.load_state_dict(merged)

    def _merge(self, name: str, own: torch.Tensor, other: torch.Tensor, classes: tuple[str, ...]) -> torch.Tensor:
        rows = CLASS_ROWS.get(name.rpartition(".")[0])
        if rows is not None and classes != self.classes and other.shape[1:] == own.shape[1:]:
            merged = own.clone()
            merged[:rows] = other[:rows]
            for new, label in enumerate(self.classes, start=1):
                if label in classes:
                    old = classes.index(label) + 1
                    merged[new * rows : (new + 1) * rows] = other[old * rows : (old + 1) * rows]
            return merged
        if other.shape != own.shape:
            raise BadCheckpoint(
                f"weights do not fit network {self.config.network!r}: {name} should have shape "
                f"{tuple(own.shape)}, got {tuple(other.shape)}; choose the network that the file was trained with"
            )
        return other

    @property
    def has_coco_weights(self) -> bool:
        """Whether torchvision offers COCO weights for this network."""
        return find_network(self.config.network).coco_weights is not None

    def load_coco(self) -> None:
        """Start from torchvision's COCO weights, through torchvision's own (cached) download."""
        weights = find_network(self.config.network).coco_weights
        if weights is None:
            raise BadEngine(
                f"there are no COCO weights for network {self.config.network!r}; set pretrained_weights: none"
            )
        try:
            tensors = weights.get_state_dict(progress=False, check_hash=True)
        except OSError as err:
            raise BadCheckpoint(
                f"the COCO weights of {self.config.network} could not be downloaded ({err}); allow the network, "
                f"or fetch {weights.url} elsewhere and set pretrained_weights to the file's path"
            ) from err
        if weights is MaskRCNN_ResNet50_FPN_Weights.COCO_V1:
            tensors = _for_eps(tensors, 1e-5)
        self.load_tensors(tensors, weights.meta["categories"][1:])

    def to(self, device: str) -> TorchvisionEngine:
        """Move the network to a device and return the engine."""
        self.network.to(device)
        return self


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes with bfloat16 itself; where it is emulated it is slower than float32."""
    return torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu._is_avx512_bf16_supported()


def _for_eps(tensors: Mapping[str, torch.Tensor], eps: float) -> dict[str, torch.Tensor]:
    """Batch norm statistics that were made for an epsilon of 0, as torchvision's oldest weights were, for `eps`."""
    return {
        name: (value - eps).clamp(min=0) if name.endswith("running_var") else value for name, value in tensors.items()
    }
