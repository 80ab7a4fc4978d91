"""Mask probabilities of many dropout samples of few objects, at a fraction of the mask head's usual cost.

The convolutions before the first dropout depend on the box alone, and the boxes of one object's samples are nearly the
same: they run once for each object, and each sample reads its own box out of their result. The rest of the head is
computed for the sample's label alone.
"""

from __future__ import annotations

import torch
from torch.nn.functional import linear
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor
from torchvision.ops import box_iou, nms

SAME_OBJECT = 0.4
"""Box IoU from which on two boxes are about the same."""

ROWS_PER_BATCH = {"cpu": 24, "cuda": 256}
"""Samples at once: what is larger than some 30 MB costs a CPU more to allocate than to compute, a GPU waits for few."""


def group_boxes(boxes: torch.Tensor, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The boxes (k, 4) with the best scores (n,) of those that are about the same, and which of them is each (n,)'s."""
    objects = boxes[nms(boxes, scores, SAME_OBJECT)]
    if not len(objects):
        return objects, boxes.new_zeros(0, dtype=torch.int64)
    return objects, box_iou(boxes, objects).argmax(1)  # (n, k) -> (n,)


def read_boxes(
    trunk: torch.Tensor, objects: torch.Tensor, belongs_to: torch.Tensor, boxes: torch.Tensor
) -> torch.Tensor:
    """Features (n, m, m, c) in boxes (n, 4), read from those of the objects (k, c, m, m) in boxes (k, 4).

    belongs_to (n,) is the object of each box. Bilinear at the centres of the cells; beyond its object a box
    reads the object's rim.
    """
    own, cells = objects[belongs_to], trunk.shape[-1]
    size = (own[:, 2:] - own[:, :2]).clamp(min=1e-3)
    start, end = (boxes[:, :2] - own[:, :2]) / size * cells, (boxes[:, 2:] - own[:, :2]) / size * cells
    centres = (torch.arange(cells, device=trunk.device) + 0.5) / cells
    at = (start[..., None] + (end - start)[..., None] * centres - 0.5).clamp(0, cells - 1)  # (n, 2, m)
    steps = torch.arange(cells, device=trunk.device)
    weights = (1 - (at[..., None] - steps).abs()).clamp(min=0).to(trunk.dtype)  # (n, 2, m, m)
    rows = trunk.permute(0, 2, 3, 1).flatten(2)[belongs_to]  # (k, c, m, m) -> (n, m, m * c)
    down = (weights[:, 1] @ rows).view(len(boxes), cells, cells, trunk.shape[1])  # (n, m, m, c), read along y
    return weights[:, None, 0] @ down  # (n, 1, m, m) @ (n, m, m, c): along x


def mask_probabilities(predictor: MaskRCNNPredictor, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """What the predictor says of features (n, m, m, c) for one label each (n,), as (n, 2m, 2m) in 0..1.

    The same as the predictor's own output at those labels, but for the last dropout, which is drawn as a normal.
    """
    at_once = ROWS_PER_BATCH.get(features.device.type, ROWS_PER_BATCH["cpu"])
    parts = zip(features.split(at_once), labels.split(at_once), strict=True)
    return torch.cat([_probabilities(predictor, some, of) for some, of in parts])


def _probabilities(predictor: MaskRCNNPredictor, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    n, h, w, _ = features.shape
    deconv, last = predictor.conv5_mask, predictor.mask_fcn_logits
    cells = predictor.drop5(features)
    kernel = deconv.weight.permute(2, 3, 1, 0).flatten(0, 2)  # (c, d, 2, 2) -> (2 * 2 * d, c)
    hidden = linear(cells, kernel, deconv.bias.repeat(4)).relu_()  # a stride as wide as the kernel: no overlap
    weights = last.weight[labels + 1, :, 0, 0][..., None].to(hidden.dtype)  # (n, d, 1); background is channel 0
    logits = predictor.drop_logits.weighted_sum(hidden.view(n, h * w * 4, last.in_channels), weights)
    logits = logits.view(n, h, w, 2, 2) + last.bias[labels + 1].view(n, 1, 1, 1, 1)
    return logits.permute(0, 1, 3, 2, 4).reshape(n, 2 * h, 2 * w).sigmoid()
