"""The default engine: torchvision's Mask R-CNN with MaskAL's dropout heads."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch.nn.functional import softmax
from torchvision.models.detection.image_list import ImageList

from model.engines.base import EngineConfig, InputRange, Keeping, Target
from model.engines.batching import in_halves
from model.engines.float32 import leave_tf32
from model.engines.passes import together
from model.engines.pasting import enlarged, paste_masks, with_boxes_of_masks
from model.engines.results import (
    detections,
    detections_of_passes,
    in_original_pixels,
    instances,
    instances_of_passes,
)
from model.engines.selection import masks_of_any_class, proposals_of, propose_places
from model.engines.torchvision.encoded import Encoded, Features
from model.engines.torchvision.inputs import Inputs
from model.engines.torchvision.mask_room import with_learned_room
from model.engines.torchvision.mask_targets import with_masks_at_corners
from model.engines.torchvision.networks import (
    backbone_stages,
    build_network,
    find_network,
    train_mode,
    with_facts,
)
from model.engines.torchvision.precision import computing, in_float32, single
from model.engines.torchvision.roi_inference import RoIInference
from model.engines.torchvision.weights import coco_weights, fitted, imagenet_weights, translated
from model.errors import BadEngine
from model.instances import CoarseInstances, Instances, Proposals
from model.scaling import Scaling

logger = logging.getLogger(__name__)

MIN_OBJECTNESS = 0.01
"""What the proposal network thinks less of is left out where it need not be exact: mostly half of the proposals."""


class TorchvisionEngine:
    """One torchvision Mask R-CNN; see `base.Engine` for the protocol."""

    name = "torchvision"

    def __init__(self, classes: Sequence[str], config: EngineConfig) -> None:
        if not classes:
            raise BadEngine("an engine needs at least one class, got none; add labels to the labelling config")
        self.classes = tuple(classes)
        self.config = with_facts(config)
        self._kind = find_network(self.config.network, self.config.network_facts)
        self.network = build_network(self.config, len(self.classes)).eval()
        self._inputs = Inputs(self.network.transform, self._kind.scaling)
        self._heads = RoIInference(self.network, self.config)
        if not self._kind.is_exact_as_detectron2:
            self.network.backbone.to(memory_format=torch.channels_last)
        self.network.backbone.register_forward_pre_hook(_fast_layout_in_training)
        self.network.rpn.head.register_forward_hook(in_float32)
        self.network.roi_heads.register_forward_pre_hook(with_masks_at_corners)
        if self._kind.mask_room > 1:
            self.network.roi_heads.mask_roi_pool.register_forward_pre_hook(with_learned_room)

    @property
    def input_range(self) -> InputRange | None:
        """What input the network can take."""
        return self._kind.input

    @property
    def training_size_hw(self) -> tuple[int, int]:
        """Shortest and longest side of the network's input in pixels."""
        return self._inputs.size_hw

    @property
    def scaling(self) -> Scaling:
        """How images get the size of the network's input."""
        return self._inputs.scaling

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = next(self.network.parameters()).device
        return device

    @torch.no_grad()
    def encode(self, images: Sequence[np.ndarray], *, exact: bool = False) -> list[Encoded]:
        """Backbone, proposals and pooled box features of RGB uint8 (h, w, 3) images.

        Images that become equally large are computed together. Unless `exact`, in bfloat16 where the hardware has
        it, and with a first look that leaves out the proposals which cannot matter to a pass.
        """
        self.network.eval()
        encoded: dict[int, Encoded] = {}
        for indices in self._inputs.equally_large(images):
            computed = in_halves(lambda some: self._encode([images[i] for i in some], exact), indices)
            encoded |= dict(zip(indices, computed, strict=True))
        return [encoded[i] for i in range(len(images))]

    def _encode(self, images: Sequence[np.ndarray], exact: bool) -> list[Encoded]:
        resized = self._input(images, exact)
        self.network.rpn.score_thresh = 0.0 if exact else MIN_OBJECTNESS
        with computing(self.device, exact or not self._kind.has_sturdy_features):
            levels = self.network.backbone(resized.tensors)
            proposals = self.network.rpn(resized, levels)[0]
        if exact or self.device.type != "cpu":
            levels = {name: single(level).contiguous() for name, level in levels.items()}
        encoded = []
        for i, (image, size_hw, boxes) in enumerate(zip(images, resized.image_sizes, proposals, strict=True)):
            own = {name: level[i : i + 1] for name, level in levels.items()}
            nothing = Encoded(own, boxes[:0], boxes[:0], None, tuple(size_hw), image.shape[:2])
            encoded.append((self._heads.with_proposals if exact else self._heads.looked_at)(nothing, boxes))
        return encoded

    def _input(self, images: Sequence[np.ndarray], exact: bool) -> ImageList:
        """The network's input for RGB uint8 (h, w, 3) images.

        channels_last, which is faster, but where it has to be exactly Detectron2's: sums in another order differ in the
        last digits, and more so from layer to layer.
        """
        layout = torch.contiguous_format if exact and self._kind.is_exact_as_detectron2 else torch.channels_last
        return self._inputs.batch(images, next(self.network.parameters()), layout)

    @torch.no_grad()
    def decode(
        self, encoded: Encoded, *, confidence_threshold: float | None = None, any_class: bool = False
    ) -> Instances:
        """The ordinary prediction, from the first look where there is one; dropout has to be off.

        Where the network's boxes are worse than its masks, a mask has some room around its box, and sets it right.
        """
        look = encoded.first_look or self._heads.first_look(encoded)
        selection = detections(look.probabilities, look.boxes, self.config, confidence_threshold, any_class)
        weights = look.probabilities[selection.proposals]
        roomy = replace(selection, boxes_xyxy=enlarged(selection.boxes_xyxy, self._kind.mask_room, encoded.resized_hw))
        with computing(self.device, encoded.is_exact):
            masks = self._heads.masks(encoded, roomy.boxes_xyxy, selection.labels, weights if any_class else None)
        found = instances(encoded, roomy, weights, masks)
        return found if self._kind.mask_room == 1 else with_boxes_of_masks(found)

    @torch.no_grad()
    def sample(self, encoded: Encoded, passes: int) -> tuple[Instances, ...] | tuple[CoarseInstances, ...]:
        """The instances of each pass; the heads run once over the rows of all passes.

        Every row draws its own dropout, so this is the same distribution as one run per pass. An exact encoding
        gives whole masks, another one masks on a coarse grid; and where no pass finds an object of a sure class, the
        objects that are there whatever their class.
        """
        with computing(self.device, encoded.is_exact):
            probabilities, boxes = self._heads.boxes(encoded, passes)
            found = detections_of_passes(encoded, probabilities, boxes, self.config)
            masks = self._heads.masks_of_passes(encoded, together(found))
        return instances_of_passes(encoded, found, probabilities, masks)

    @torch.no_grad()
    def propose(self, encoded: Encoded, passes: int) -> Proposals:
        """What may be an object; after a first look the passes run over these places alone."""
        look = encoded.first_look
        if look is None:
            probabilities, boxes = self._heads.boxes(encoded, passes)
            found = propose_places(boxes.mean(0), probabilities.mean(0), self.config.nms_threshold)
            probabilities = probabilities[:, found.proposals]
        else:
            found = propose_places(look.boxes, look.probabilities, self.config.nms_threshold)
            places = self._heads.with_proposals(encoded, look.proposals[found.proposals], exact=False)
            with computing(self.device, exact=False):
                probabilities, _ = self._heads.boxes(places, passes)
        return proposals_of(in_original_pixels(encoded, found.boxes_xyxy), probabilities)

    def predict(self, image: np.ndarray, *, confidence_threshold: float | None = None) -> Instances:
        """The ordinary prediction for one RGB uint8 (h, w, 3) image, in full precision."""
        [encoded] = self.encode([image], exact=True)
        return self.decode(encoded, confidence_threshold=confidence_threshold)

    def embedding(self, encoded: Encoded) -> np.ndarray:
        """What the backbone sees in the image as a whole, (2 * c,) float32 of length 1.

        Mean and spread of the coarsest level before the last, which still tells objects from the ground.
        """
        level = encoded.features["3"][0].float()  # (c, h, w)
        vector = torch.cat([level.mean((1, 2)), level.std((1, 2))])
        return np.asarray((vector / vector.norm().clamp(min=1e-12)).cpu().numpy(), np.float32)

    @torch.no_grad()
    def features(self, image: np.ndarray) -> Features:
        """The backbone's features alone, in bfloat16 where the hardware computes with it."""
        images = self._input([image], exact=False)
        with computing(self.device, exact=False):
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
        levels = {name: single(level) for name, level in features.levels.items()}
        pooled = heads.mask_roi_pool(levels, resized, [features.resized_hw])
        masks = heads.mask_predictor(heads.mask_head(pooled))[0, 1:].sigmoid()  # (1, 1 + c, m, m) -> (c, m, m)
        if label is None:
            seen = heads.box_head(heads.box_roi_pool(levels, resized, [features.resized_hw]))
            weights = softmax(heads.box_predictor(seen)[0][0, 1:], -1)
            mask = masks_of_any_class(masks[None], weights[None])[0]
        else:
            mask = masks[label]
        return paste_masks(mask[None], box, (h, w))[0]

    def losses(self, images: Sequence[torch.Tensor], targets: Sequence[Target]) -> dict[str, torch.Tensor]:
        """torchvision's five losses by name; images are float (3, h, w) in 0..1, reviewed-empty ones included.

        Images that all have the network's size are not scaled once more, and nor are their masks: one float32 mask of
        the whole image for each object would be made for nothing.
        """
        train_mode(self.network)
        self.network.rpn.score_thresh = 0.0
        sizes, device = [(image.shape[-2], image.shape[-1]) for image in images], self.device
        self.network.transform._skip_resize = all(map(self._inputs.has_size, sizes))
        dicts = [
            {"boxes": t.boxes_xyxy.to(device), "labels": t.labels.to(device) + 1, "masks": t.masks.to(device)}
            for t in targets
        ]
        with computing(self.device, exact=False):
            losses: dict[str, torch.Tensor] = self.network([image.to(device) for image in images], dicts)
        return losses

    def tensors(self) -> dict[str, torch.Tensor]:
        """All weights and buffers by torchvision's names."""
        return dict(self.network.state_dict())

    def load_tensors(self, tensors: Mapping[str, torch.Tensor], classes: Sequence[str]) -> None:
        """Take over weights trained for `classes`, Detectron2's too; rows of classes that both know are kept, by name.

        A classifier of timm's gives its backbone. Weights that were not trained here freeze the batch norm. Raises
        BadCheckpoint if they are not of this network.
        """
        own = self.network.state_dict()
        tensors, names = translated(own, self.classes, tensors, tuple(classes), self._kind)
        self.network.load_state_dict(fitted(own, self.classes, tensors, names, self.config.network))

    def backbone_stages(self) -> list[list[torch.nn.Parameter]]:
        """Parameters of the backbone by depth: the stem, then four stages."""
        return backbone_stages(self.network)

    @property
    def keeping(self) -> Keeping:
        """What training should leave as it was where it starts from pretrained weights."""
        return self._kind.keeping

    @property
    def has_coco_weights(self) -> bool:
        """Whether torchvision offers COCO weights for this network."""
        return self._kind.coco_weights is not None

    def load_coco(self) -> None:
        """Start from torchvision's COCO weights, through torchvision's own (cached) download."""
        self.load_tensors(*coco_weights(self.config.network))

    @property
    def has_imagenet_weights(self) -> bool:
        """Whether the backbone is one of timm's."""
        return self._kind.timm is not None

    def load_imagenet(self) -> None:
        """Start with a backbone trained on ImageNet, from a package or through timm's own (cached) download."""
        self.network.load_state_dict(imagenet_weights(self.network.state_dict(), self.config.network, self._kind))

    def to(self, device: str) -> TorchvisionEngine:
        """Move the network to a device and return the engine; on a GPU full precision is float32, not TF32."""
        leave_tf32(device)
        self.network.to(device)
        return self


def _fast_layout_in_training(backbone: torch.nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor] | None:
    """A batch to train on is laid out channels_last, whatever the weights are."""
    return (inputs[0].contiguous(memory_format=torch.channels_last),) if backbone.training else None
