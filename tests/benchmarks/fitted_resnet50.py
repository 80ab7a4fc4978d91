"""A ResNet-50 FPN that finds the generated heads, in seconds: random features, and last layers by least squares.

Speed needs no good network, but one with the usual proposals, detections and doubts. The layers in front stay random
(an "extreme learning machine", Huang et al. 2006, doi 10.1016/j.neucom.2005.12.126), those that give scores, boxes and
masks are solved for, one stage after the other, as each works on what the one before it proposes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.roi_heads import project_masks_on_boxes
from torchvision.ops import box_iou, masks_to_boxes

from backend.generated.broccoli import LABELS
from model.engines.base import EngineConfig
from model.engines.torchvision.engine import TorchvisionEngine
from model.geometry import polygons_to_mask
from tests.benchmarks.fields import fields, resize_to

STRENGTH = 1e-3
"""Of the ridge, as a share of the mean square of a feature."""

SURE = {"rpn": 5.0, "class": 5.0, "mask": 4.0}
"""Logit of what is surely an object (of a class, a pixel of it), the other sign where it surely is none."""

OBJECT_IOU, ANCHOR_IOU, NOTHING_IOU = 0.5, 0.6, 0.3
ROIS = 400
"""Proposals of an image that the box head is fitted on, at most."""

PLACES = 20_000
"""Places of the pyramid that are no object's, of all images, that the proposals are fitted on, at most."""

PIXELS = 1.6e6
"""Of all images that are fitted on, as far as that is not too few or many of either kind."""

FEWEST, MOST = 3, 12


def fitted_resnet50(device: str, size: int) -> TorchvisionEngine:
    """A ResNet-50 FPN that finds the heads of fields of that size in pixels, which is also that of its input."""
    torch.manual_seed(0)
    engine = TorchvisionEngine(LABELS, EngineConfig(network="maskrcnn_resnet50_fpn"))
    resize_to(engine, size)
    fit(engine.network, Scene(engine.network, size))
    return engine.to(device)


class Scene:
    """Fields of one and of four parts as the network scales them, and what is in them, in the pixels of its input."""

    def __init__(self, network: MaskRCNN, size: int) -> None:
        count = min(MOST, max(FEWEST, round(PIXELS / size**2 / 2)))
        made = [drawn for tiles in (1, 2) for drawn in fields(count, tiles, size, tiles) if drawn[1]]
        tensors = [torch.from_numpy(image).permute(2, 0, 1).float() / 255 for image, _ in made]
        targets = []
        for image, outlines in made:
            masks = torch.from_numpy(np.stack([polygons_to_mask(o.parts, image.shape[:2]) for o in outlines]))
            labels = torch.tensor([1 + LABELS.index(outline.label) for outline in outlines])
            targets.append({"masks": masks.to(torch.uint8), "labels": labels, "boxes": masks_to_boxes(masks)})
        self.images, scaled = network.transform(tensors, targets)
        self.targets: list[dict[str, Tensor]] = scaled or []


@torch.no_grad()
def fit(network: MaskRCNN, scene: Scene) -> None:
    """Solve for the layers that give proposals, classes, boxes and masks."""
    network.eval()
    body = network.backbone.body(scene.images.tensors)
    even_out(network, body)
    features = network.backbone(scene.images.tensors)
    fit_proposals(network, scene, list(features.values()))
    proposals, _ = network.rpn(scene.images, features)
    boxes = [torch.cat([p[:ROIS], t["boxes"]]) for p, t in zip(proposals, scene.targets, strict=True)]
    fit_boxes(network, scene, features, boxes)
    fit_masks(network, scene, features)


def even_out(network: MaskRCNN, body: dict[str, Tensor]) -> None:
    """Bring the random pyramid to values of about 1, which random weights without batch norm are far from."""
    fpn = network.backbone.fpn
    for block, level in zip(fpn.inner_blocks, body.values(), strict=True):
        block[0].weight /= block[0](level).std()
    for block, level in zip(fpn.layer_blocks, fpn(body).values(), strict=False):
        block[0].weight /= level.std()


def fit_proposals(network: MaskRCNN, scene: Scene, features: list[Tensor]) -> None:
    """The proposals' scores and boxes, shape of anchor by shape."""
    rpn = network.rpn
    anchors = rpn.anchor_generator(scene.images, features)
    hidden = [rpn.head.conv(level) for level in features]  # (n, c, h, w)
    shapes = rpn.anchor_generator.num_anchors_per_location()[0]
    flat = torch.cat([h.permute(0, 2, 3, 1).flatten(1, 2) for h in hidden], 1)  # (n, places, c)
    for shape in range(shapes):
        own = [a[shape::shapes] for a in anchors]
        overlaps = [box_iou(a, t["boxes"]).max(1) for a, t in zip(own, scene.targets, strict=True)]
        best = torch.cat([o.values for o in overlaps])
        seen = flat.flatten(0, 1)
        nothing = torch.nonzero(best < NOTHING_IOU)[:, 0]
        known = torch.cat([torch.nonzero(best >= ANCHOR_IOU)[:, 0], nothing[torch.randperm(len(nothing))[:PLACES]]])
        is_object = best[known] >= ANCHOR_IOU
        scores = torch.where(is_object, SURE["rpn"], -SURE["rpn"])[:, None]
        solve(rpn.head.cls_logits, seen[known], scores, balanced(is_object), [shape])
        near = best >= OBJECT_IOU
        wanted = torch.cat([t["boxes"][o.indices] for t, o in zip(scene.targets, overlaps, strict=True)])
        deltas = rpn.box_coder.encode_single(wanted[near], torch.cat(own)[near])
        solve(rpn.head.bbox_pred, seen[near], deltas, None, list(range(4 * shape, 4 * shape + 4)))


def fit_boxes(network: MaskRCNN, scene: Scene, features: dict[str, Tensor], boxes: list[Tensor]) -> None:
    """Classes and boxes of what is proposed."""
    heads = network.roi_heads
    seen = heads.box_head(heads.box_roi_pool(features, boxes, scene.images.image_sizes))
    overlaps = [box_iou(b, t["boxes"]).max(1) for b, t in zip(boxes, scene.targets, strict=True)]
    wanted = torch.cat([t["boxes"][o.indices] for t, o in zip(scene.targets, overlaps, strict=True)])
    found = torch.cat([o.values for o in overlaps]) >= OBJECT_IOU
    labels = torch.cat([t["labels"][o.indices] for t, o in zip(scene.targets, overlaps, strict=True)]) * found
    classes = heads.box_predictor.cls_score.out_features
    scores = SURE["class"] * (2 * nn.functional.one_hot(labels, classes).float() - 1)
    solve(heads.box_predictor.cls_score, seen, scores, balanced(found), list(range(classes)))
    deltas = heads.box_coder.encode_single(wanted[found], torch.cat(boxes)[found])
    for label in range(1, classes):
        own = labels[found] == label
        rows = list(range(4 * label, 4 * label + 4))
        solve(heads.box_predictor.bbox_pred, seen[found][own], deltas[own], None, rows)


def fit_masks(network: MaskRCNN, scene: Scene, features: dict[str, Tensor]) -> None:
    """Masks of the objects in their own boxes."""
    heads = network.roi_heads
    boxes = [t["boxes"] for t in scene.targets]
    pooled = heads.mask_roi_pool(features, boxes, scene.images.image_sizes)
    hidden = heads.mask_predictor.relu(heads.mask_predictor.conv5_mask(heads.mask_head(pooled)))  # (k, c, s, s)
    side = hidden.shape[-1]
    masks = [project_masks_on_boxes(t["masks"], t["boxes"], torch.arange(len(t["boxes"])), side) for t in scene.targets]
    wanted = SURE["mask"] * (2 * torch.cat(masks) - 1)  # (k, s, s)
    labels = torch.cat([t["labels"] for t in scene.targets])
    seen = hidden.permute(0, 2, 3, 1)
    for label in labels.unique().tolist():
        own = labels == label
        solve(
            heads.mask_predictor.mask_fcn_logits, seen[own].flatten(0, 2), wanted[own].flatten()[:, None], None, [label]
        )


def solve(layer: nn.Module, seen: Tensor, wanted: Tensor, weights: Tensor | None, rows: list[int]) -> None:
    """Let some rows of a linear layer (or 1 x 1 convolution) give `wanted` (n, r) from `seen` (n, c), by ridge."""
    x = torch.cat([seen, torch.ones(len(seen), 1)], 1).double()
    weighted = x if weights is None else x * weights[:, None]
    square = weighted.T @ x
    ridge = STRENGTH * square.diagonal().mean() * torch.eye(len(square), dtype=torch.double)
    found = torch.linalg.solve(square + ridge, weighted.T @ wanted.double()).float()  # (c + 1, r)
    layer.weight.data.flatten(1)[rows] = found[:-1].T
    layer.bias.data[rows] = found[-1]


def balanced(found: Tensor) -> Tensor:
    """Weights (n,) by which what is an object (n,) bool counts as much as all that is none."""
    share = found.float().mean().clamp(1e-6, 1 - 1e-6)
    return torch.where(found, 0.5 / share, 0.5 / (1 - share))
