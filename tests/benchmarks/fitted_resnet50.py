"""A ResNet-50 FPN that finds the generated heads, in seconds: random features, and last layers by least squares.

Speed needs no good network, but one with the usual proposals, detections and doubts. The layers in front stay random
(an "extreme learning machine", Huang et al. 2006, doi 10.1016/j.neucom.2005.12.126), those that give scores, boxes and
masks are solved for, one stage after the other, as each works on what the one before it proposes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.roi_heads import project_masks_on_boxes
from torchvision.ops import box_iou, masks_to_boxes

from backend.generated.broccoli import LABELS
from model import checkpoints
from model.engines.base import EngineConfig
from model.engines.torchvision.engine import TorchvisionEngine
from model.geometry import polygons_to_mask
from tests.benchmarks.fields import fields, resize_to

PENALTY, STEADY_PENALTY = 1e-3, 6.0
"""Of a feature's weight, as a share of its mean square; the second is for what dropout with 0.25 must hardly move: that
alone amounts to 1/3.
"""

SURE = {"rpn": 5.0, "class": 16.0, "mask": 5.0}
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


def loaded_resnet50(weights: Path, device: str, size: int) -> TorchvisionEngine:
    """A ResNet-50 FPN with these weights, for fields of that size in pixels, which is also that of its input."""
    engine = TorchvisionEngine(LABELS, EngineConfig(network="maskrcnn_resnet50_fpn"))
    resize_to(engine, size)
    engine.load_tensors(checkpoints.load(weights)[0], LABELS)
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
    network.roi_heads.train()  # what is fitted there sees the dropout that it will have to do with
    body = network.backbone.body(scene.images.tensors)
    even_out(network, body)
    features = network.backbone(scene.images.tensors)
    fit_proposals(network, scene, list(features.values()))
    proposals, _ = network.rpn(scene.images, features)
    boxes = [torch.cat([p[:ROIS], t["boxes"]]) for p, t in zip(proposals, scene.targets, strict=True)]
    fit_boxes(network, scene, features, boxes)
    fit_masks(network, scene, features)
    network.eval()


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
        solve(rpn.head.bbox_pred, seen[near], deltas, None, range(4 * shape, 4 * shape + 4))


def fit_boxes(network: MaskRCNN, scene: Scene, features: dict[str, Tensor], boxes: list[Tensor]) -> None:
    """Classes and boxes of what is proposed."""
    heads = network.roi_heads
    head, predictor = heads.box_head, heads.box_predictor
    overlaps = [box_iou(b, t["boxes"]).max(1) for b, t in zip(boxes, scene.targets, strict=True)]
    wanted = torch.cat([t["boxes"][o.indices] for t, o in zip(scene.targets, overlaps, strict=True)])
    found = torch.cat([o.values for o in overlaps]) >= OBJECT_IOU
    labels = torch.cat([t["labels"][o.indices] for t, o in zip(scene.targets, overlaps, strict=True)]) * found
    classes = predictor.cls_score.out_features
    scores = 2 * nn.functional.one_hot(labels, classes).float() - 1
    deltas = heads.box_coder.encode_single(wanted, torch.cat(boxes)) * found[:, None]
    pooled = head.stem(heads.box_roi_pool(features, boxes, scene.images.image_sizes))
    weight, bias = ridge(pooled, torch.cat([scores, deltas], 1), balanced(found), STEADY_PENALTY)
    spread(head.fc6, weight, bias)
    seen = head(pooled)
    wanted_scores = SURE["class"] * scores
    solve(predictor.cls_score, seen, wanted_scores, balanced(found), range(classes), STEADY_PENALTY)
    for label in range(1, classes):
        own = labels == label
        rows = range(4 * label, 4 * label + 4)
        solve(predictor.bbox_pred, seen[own], deltas[own], None, rows, STEADY_PENALTY)


def fit_masks(network: MaskRCNN, scene: Scene, features: dict[str, Tensor]) -> None:
    """Masks of the objects in their own boxes."""
    heads = network.roi_heads
    predictor = heads.mask_predictor
    boxes = [t["boxes"] for t in scene.targets]
    labels = torch.cat([t["labels"] for t in scene.targets])
    pooled = heads.mask_head(heads.mask_roi_pool(features, boxes, scene.images.image_sizes))  # (k, c, s, s)
    side = 2 * pooled.shape[-1]
    masks = [project_masks_on_boxes(t["masks"], t["boxes"], torch.arange(len(t["boxes"])), side) for t in scene.targets]
    wanted = 2 * torch.cat(masks) - 1  # (k, 2 s, 2 s)
    coarse = nn.functional.avg_pool2d(wanted[:, None], 2).flatten()[:, None]
    weight, bias = ridge(pooled.permute(0, 2, 3, 1).flatten(0, 2), coarse, None, STEADY_PENALTY)
    spread(predictor.conv5_mask, weight, bias)
    hidden = predictor.relu(predictor.conv5_mask(predictor.drop5(pooled)))
    seen = predictor.drop_logits(hidden).permute(0, 2, 3, 1)
    for label in labels.unique().tolist():
        own = labels == label
        target = SURE["mask"] * wanted[own].flatten()[:, None]
        solve(predictor.mask_fcn_logits, seen[own].flatten(0, 2), target, None, [label])


def spread(layer: nn.Linear | nn.ConvTranspose2d, weight: Tensor, bias: Tensor) -> None:
    """Let all units of a layer be random mixtures of a few signals, weight (s, c) and bias (s,) of its input.

    Dropout then hardly touches the signals, as each is in many units.
    """
    mixture = torch.randn(len(layer.bias), len(bias))
    if isinstance(layer, nn.Linear):
        layer.weight.data = mixture @ weight
    else:
        layer.weight.data = (mixture @ weight).T[:, :, None, None].repeat(1, 1, *layer.kernel_size)
    layer.bias.data = mixture @ bias + torch.randn(len(mixture))


def solve(
    layer: nn.Module,
    seen: Tensor,
    wanted: Tensor,
    weights: Tensor | None,
    rows: Sequence[int],
    penalty: float = PENALTY,
) -> None:
    """Let some rows of a linear layer (or 1 x 1 convolution) give `wanted` (n, r) from `seen` (n, c)."""
    weight, bias = ridge(seen, wanted, weights, penalty)
    layer.weight.data.flatten(1)[list(rows)] = weight
    layer.bias.data[list(rows)] = bias


def ridge(seen: Tensor, wanted: Tensor, weights: Tensor | None, penalty: float = PENALTY) -> tuple[Tensor, Tensor]:
    """Weight (r, c) and bias (r,) that give `wanted` (n, r) from `seen` (n, c), with or without weights (n,).

    The penalty of a feature grows with its square, as the noise does that dropout makes of it (Wager et al. 2013).
    """
    n, c = seen.shape
    root = torch.ones(n, 1) if weights is None else (weights / weights.mean()).sqrt()[:, None]
    mean, middle = seen.mean(0), wanted.mean(0)
    scale = (seen**2).mean(0).sqrt().clamp_min(1e-6)
    x, y = (root * (seen - mean) / scale).double(), (root * (wanted - middle)).double()
    if c <= n:
        found = torch.linalg.solve(x.T @ x + penalty * n * torch.eye(c, dtype=x.dtype), x.T @ y)
    else:
        found = x.T @ torch.linalg.solve(x @ x.T + penalty * n * torch.eye(n, dtype=x.dtype), y)
    weight = (found.float() / scale[:, None]).T
    return weight, middle - weight @ mean


def balanced(found: Tensor) -> Tensor:
    """Weights (n,) by which what is an object (n,) bool counts as much as all that is none."""
    share = found.float().mean().clamp(1e-6, 1 - 1e-6)
    return torch.where(found, 0.5 / share, 0.5 / (1 - share))
