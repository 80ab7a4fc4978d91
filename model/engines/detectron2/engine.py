"""Detectron2's own Mask R-CNN with MaskAL's dropout heads, where Detectron2 is installed.

Imported by the loader alone. It computes everything in full precision; what a fast score spares are whole masks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2 import model_zoo
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.modeling.roi_heads.box_head import FastRCNNConvFCHead
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from detectron2.structures import BitMasks, Boxes
from detectron2.structures import Instances as TheirInstances
from detectron2.utils.events import EventStorage
from torch.nn.functional import softmax
from torchvision.ops import clip_boxes_to_image

from model.engines.base import EngineConfig, InputRange, Keeping, Target
from model.engines.detectron2.weights import with_statistics
from model.engines.dropout import Dropout
from model.engines.float32 import leave_tf32
from model.engines.passes import coarse_passes, together
from model.engines.pasting import paste_masks
from model.engines.selection import Selection, masks_of_any_class, proposals_of, propose_places, select
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


class DropoutOutputLayers(FastRCNNOutputLayers):
    """x1 = drop(x) > class scores; x2 = drop(x1) > box deltas: the regression is dropped twice."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, d) -> class logits (n, c + 1), background last, and box deltas (n, 4 * c)."""
        x1 = self.drop_scores(x)
        return self.cls_score(x1), self.bbox_pred(self.drop_boxes(x1))


class Detectron2Engine:
    """One Mask R-CNN of Detectron2's with an FPN; see `base.Engine` for the protocol."""

    name = "detectron2"
    scaling = DETECTRON2

    def __init__(self, classes: Sequence[str], config: EngineConfig) -> None:
        if not classes:
            raise BadEngine("an engine needs at least one class, got none; add labels to the labelling config")
        self.classes = tuple(classes)
        self.settings = _settings(config, len(self.classes))
        self.config = _with_settings(config, self.settings)
        self.network: Any = _with_dropout(self.settings, config.dropout_probability).eval()

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
        for layer in takewhile(_is_not_dropout, heads.box_head):
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
        threshold = self.config.confidence_threshold if confidence_threshold is None else confidence_threshold
        probabilities, boxes = self._box_head(encoded, 1)
        selection = self._select(probabilities[0], boxes[0], threshold, any_class)
        weights = probabilities[0][selection.proposals]
        masks = self._masks(encoded, selection.boxes_xyxy, selection.labels, weights if any_class else None)
        return self._instances(encoded, selection, weights, masks)

    @torch.no_grad()
    def sample(self, encoded: Encoded, passes: int) -> tuple[Instances, ...] | tuple[CoarseInstances, ...]:
        """The instances of each pass; the heads run over the stacked rows of all passes."""
        probabilities, boxes = self._box_head(encoded, passes)
        threshold, pairs = self.config.confidence_threshold, list(zip(probabilities, boxes, strict=True))
        found = [self._select(p, b, threshold, False) for p, b in pairs]
        if not encoded.is_exact and not any(len(s.labels) for s in found):
            found = [self._select(p, b, threshold, True) for p, b in pairs]
        every = together(found)
        masks = self._masks(encoded, every.boxes_xyxy, every.labels, None)
        softmaxes = [p[s.proposals] for p, s in zip(probabilities, found, strict=True)]
        if encoded.is_exact:
            parts = zip(found, softmaxes, masks.split([len(s.labels) for s in found]), strict=True)
            return tuple(self._instances(encoded, *part) for part in parts)
        original = self._in_original_pixels(encoded, every.boxes_xyxy)
        return coarse_passes(found, softmaxes, masks, original, encoded.original_hw)

    @torch.no_grad()
    def propose(self, encoded: Encoded, passes: int) -> Proposals:
        """What may be an object in the mean of the passes."""
        probabilities, boxes = self._box_head(encoded, passes)
        found = propose_places(boxes.mean(0), probabilities.mean(0), self.config.nms_threshold)
        boxes_xyxy = self._in_original_pixels(encoded, found.boxes_xyxy)
        return proposals_of(boxes_xyxy, probabilities[:, found.proposals])

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
            for layer in dropwhile(_is_not_dropout, heads.box_head):
                rows = layer(rows)
            logits, deltas = heads.box_predictor(rows)
            decoded = heads.box_predictor.box2box_transform.apply_deltas(deltas, encoded.proposals.repeat(t, 1))
            probabilities.append(softmax(logits, -1)[:, :-1].view(t, n, c))
            boxes.append(clip_boxes_to_image(decoded.view(t, n, c, 4), encoded.resized_hw))
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

    @staticmethod
    def _in_original_pixels(encoded: Encoded, boxes: torch.Tensor) -> torch.Tensor:
        (h, w), (resized_h, resized_w) = encoded.original_hw, encoded.resized_hw
        return clip_boxes_to_image(boxes * boxes.new_tensor([w / resized_w, h / resized_h] * 2), (h, w))

    def _instances(
        self, encoded: Encoded, selection: Selection, softmaxes: torch.Tensor, masks: torch.Tensor
    ) -> Instances:
        boxes = self._in_original_pixels(encoded, selection.boxes_xyxy)
        kept = (boxes[:, 2:] > boxes[:, :2]).all(1)  # a box beyond the image's rim is clipped to nothing
        return Instances(
            boxes_xyxy=boxes[kept].cpu().numpy(),
            scores=selection.scores[kept].cpu().numpy(),
            labels=selection.labels[kept].cpu().numpy(),
            softmaxes=softmaxes[kept].cpu().numpy(),
            masks=paste_masks(masks[kept], boxes[kept], encoded.original_hw),
        )

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
        return Keeping(self.settings.MODEL.BACKBONE.FREEZE_AT)

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


def _settings(config: EngineConfig, num_classes: int) -> CfgNode:
    """Detectron2's settings: those stored with a version, a model-zoo name's, or a YAML file's."""
    settings = get_cfg()
    try:
        if config.network_facts is not None:
            settings.merge_from_other_cfg(CfgNode.load_cfg(config.network_facts["settings"]))
        else:
            is_file = Path(config.network).is_file()
            path = config.network if is_file else model_zoo.get_config_file(config.network)
            settings.merge_from_file(path, allow_unsafe=False)
    except (KeyError, RuntimeError, OSError, ValueError, AssertionError) as err:
        raise BadEngine(
            f"network_config must be a YAML config of Detectron2's, by its model-zoo name or its path, got "
            f"{config.network!r} ({' '.join(str(err).split())})"
        ) from err
    settings.MODEL.DEVICE, settings.MODEL.WEIGHTS = "cpu", ""
    settings.MODEL.ROI_HEADS.NUM_CLASSES = num_classes
    if config.anchor_sizes is not None:
        settings.MODEL.ANCHOR_GENERATOR.SIZES = [[size] for size in config.anchor_sizes]
    return settings


def _with_settings(config: EngineConfig, settings: CfgNode) -> EngineConfig:
    """The config with all that a file said, so that the network can be built without it."""
    if config.network_facts is not None or not Path(config.network).is_file():
        return config
    return replace(config, network_facts={"settings": settings.dump()})


def _with_dropout(settings: CfgNode, p: float) -> Any:
    """Detectron2's network with MaskAL's dropout in its heads; the weights keep their names."""
    network: Any = build_model(settings)
    heads: Any = getattr(network, "roi_heads", None)
    if not (
        type(heads) is StandardROIHeads
        and heads.mask_on
        and isinstance(heads.box_head, FastRCNNConvFCHead)
        and isinstance(heads.mask_head, MaskRCNNConvUpsampleHead)
    ):
        raise BadEngine("engine 'detectron2' takes Mask R-CNN with an FPN and the standard heads; choose such a config")
    _insert_dropout(heads.box_head, ("fc1", "fc2"), p)
    _insert_dropout(heads.mask_head, ("deconv", "predictor"), p)
    predictor = DropoutOutputLayers(settings, heads.box_head.output_shape)
    predictor.drop_scores, predictor.drop_boxes = Dropout(p), Dropout(p)
    heads.box_predictor = predictor
    return network


def _insert_dropout(head: torch.nn.Sequential, before: Sequence[str], p: float) -> None:
    """Put dropout before layers of a head, which are run in the order in which they were added."""
    layers = dict(head.named_children())
    for name in layers:
        delattr(head, name)
    for name, layer in layers.items():
        if name in before:
            head.add_module(f"drop_{name}", Dropout(p))
        head.add_module(name, layer)


def _is_not_dropout(layer: torch.nn.Module) -> bool:
    return not isinstance(layer, torch.nn.Dropout)


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
