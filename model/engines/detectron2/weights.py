"""Weights under Detectron2's names, also Caffe2's older ones, in torchvision's names and layout.

Dropout has no weights, so MaskAL's files carry the stock names. Detectron2 counts the background last and gives it no
box and no mask; torchvision counts it first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

from model import checkpoints, pickles
from model.engines.detectron2.configs import Facts
from model.errors import BadCheckpoint

COCO_CLASSES = tuple(name for name in MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"][1:] if name != "N/A")
"""The 80 classes of COCO in Detectron2's order."""

ROOTS = ("backbone.", "proposal_generator.", "roi_heads.")
CLASS_SCORES = "roi_heads.box_predictor.cls_score"

IGNORED = r".*\.num_batches_tracked|.*\.cell_anchors\.\d+|backbone\.bottom_up\.(stem\.fc|linear)\.\w+"
"""What has no counterpart: counters, anchors of old files, and the classifier that a backbone was trained with."""

NAMES = (
    (r"backbone\.bottom_up\.stem\.conv1\.norm\.(\w+)", r"backbone.body.bn1.\1"),
    (r"backbone\.bottom_up\.stem\.conv1\.weight", r"backbone.body.conv1.weight"),
    (r"backbone\.bottom_up\.res2\.(.+)", r"backbone.body.layer1.\1"),
    (r"backbone\.bottom_up\.res3\.(.+)", r"backbone.body.layer2.\1"),
    (r"backbone\.bottom_up\.res4\.(.+)", r"backbone.body.layer3.\1"),
    (r"backbone\.bottom_up\.res5\.(.+)", r"backbone.body.layer4.\1"),
    (r"(backbone\.body\.layer\d\.\d+)\.conv(\d)\.norm\.(\w+)", r"\1.bn\2.\3"),
    (r"(backbone\.body\.layer\d\.\d+)\.shortcut\.norm\.(\w+)", r"\1.downsample.1.\2"),
    (r"(backbone\.body\.layer\d\.\d+)\.shortcut\.weight", r"\1.downsample.0.weight"),
    *((rf"backbone\.fpn_lateral{i + 2}\.(\w+)", rf"backbone.fpn.inner_blocks.{i}.0.\1") for i in range(4)),
    *((rf"backbone\.fpn_output{i + 2}\.(\w+)", rf"backbone.fpn.layer_blocks.{i}.0.\1") for i in range(4)),
    (r"proposal_generator\.rpn_head\.conv\.(\w+)", r"rpn.head.conv.0.0.\1"),
    (r"proposal_generator\.rpn_head\.objectness_logits\.(\w+)", r"rpn.head.cls_logits.\1"),
    (r"proposal_generator\.rpn_head\.anchor_deltas\.(\w+)", r"rpn.head.bbox_pred.\1"),
    (r"roi_heads\.box_head\.fc1\.(\w+)", r"roi_heads.box_head.fc6.\1"),
    (r"roi_heads\.box_head\.fc2\.(\w+)", r"roi_heads.box_head.fc7.\1"),
    *((rf"roi_heads\.mask_head\.mask_fcn{i + 1}\.(\w+)", rf"roi_heads.mask_head.{i}.0.\1") for i in range(9)),
    (r"roi_heads\.mask_head\.deconv\.(\w+)", r"roi_heads.mask_predictor.conv5_mask.\1"),
    (r"roi_heads\.mask_head\.predictor\.(\w+)", r"roi_heads.mask_predictor.mask_fcn_logits.\1"),
)
"""Patterns of whole names and what takes their place, one after the other."""

CAFFE2_NAMES = (
    (r"(.+)_w", r"\1.weight"),
    (r"(.+)_bn_(s|gamma)", r"\1.norm.weight"),
    (r"(.+)_bn_(b|beta)", r"\1.norm.bias"),
    (r"(.+)_bn_(rm|running_mean)", r"\1.norm.running_mean"),
    (r"(.+)_bn_(riv|running_var)", r"\1.norm.running_var"),
    (r"(.+)_b", r"\1.bias"),
    (r"(?:res_)?conv1\.(.+)", r"stem.conv1.\1"),
    (r"res(\d)_(\d+)_branch1\.(.+)", r"res\1.\2.shortcut.\3"),
    (r"res(\d)_(\d+)_branch2a\.(.+)", r"res\1.\2.conv1.\3"),
    (r"res(\d)_(\d+)_branch2b\.(.+)", r"res\1.\2.conv2.\3"),
    (r"res(\d)_(\d+)_branch2c\.(.+)", r"res\1.\2.conv3.\3"),
    (r"fpn_inner_res(\d)_\d+_sum(?:_lateral)?\.(.+)", r"fpn_lateral\1.\2"),
    (r"fpn_res(\d)_\d+_sum\.(.+)", r"fpn_output\1.\2"),
    (r"conv_rpn_fpn2\.(.+)", r"rpn_head.conv.\1"),
    (r"rpn_cls_logits_fpn2\.(.+)", r"rpn_head.objectness_logits.\1"),
    (r"rpn_bbox_pred_fpn2\.(.+)", r"rpn_head.anchor_deltas.\1"),
    (r"fc6\.(.+)", r"box_head.fc1.\1"),
    (r"fc7\.(.+)", r"box_head.fc2.\1"),
    (r"_\[mask\]_fcn(\d)\.(.+)", r"mask_head.mask_fcn\1.\2"),
    (r"conv5_mask\.(.+)", r"mask_head.deconv.\1"),
    (r"mask_fcn_logits\.(.+)", r"mask_head.predictor.\1"),
)

PREFIXES = {
    "backbone.bottom_up.": ("stem.", "res2.", "res3.", "res4.", "res5."),
    "backbone.": ("bottom_up.", "fpn_"),
    "proposal_generator.": ("rpn_head.",),
    "roi_heads.box_predictor.": ("cls_score.", "bbox_pred."),
    "roi_heads.": ("box_head.", "mask_head.", "box_predictor."),
}
"""What files of a part of a network leave out in front of its names."""


def is_detectron2(names: Iterable[str]) -> bool:
    """Whether these are weights under Detectron2's names."""
    return any(name.startswith("backbone.bottom_up.") for name in names)


def read(path: Path) -> dict[str, torch.Tensor]:
    """The weights in a `.pth` or `.pkl` file under Detectron2's full names, or as they are if they are others'.

    Nothing in the file is executed. Raises BadCheckpoint if it is missing, broken, or holds other things.
    """
    tensors = _arrays(path) if path.suffix.lower() == ".pkl" else checkpoints.load_torch(path)
    if any(re.fullmatch(r"res\d_\d+_branch2a_w", name) for name in tensors):
        tensors = _from_caffe2(tensors)
    if any(name.startswith("stem.") for name in tensors) and not any(name.startswith("res2.") for name in tensors):
        return tensors  # networks of others have stems, too
    return {_with_prefix(name): tensor for name, tensor in tensors.items()}


def num_classes(tensors: Mapping[str, torch.Tensor]) -> int | None:
    """Foreground classes of weights under Detectron2's names; None if they are of a backbone alone."""
    scores = tensors.get(f"{CLASS_SCORES}.weight")
    return None if scores is None else len(scores) - 1


def class_names(tensors: Mapping[str, torch.Tensor], given: tuple[str, ...] | None) -> tuple[str, ...]:
    """Names of the classes that weights know: the given ones if they are as many, or COCO's; BadCheckpoint if not."""
    known = num_classes(tensors)
    if known is None and given:
        return given
    if given and len(given) == known:
        return given
    if known == len(COCO_CLASSES) and given is None:
        return COCO_CLASSES
    raise BadCheckpoint(
        f"the weights know {'no' if known is None else known} classes, and {len(given or ())} names were given"
        f"{' (' + ', '.join(given) + ')' if given else ''}; name each, in the order that they were trained in (`maskal "
        "weights convert --classes a,b,c`)"
    )


def from_detectron2(tensors: Mapping[str, torch.Tensor], facts: Facts) -> dict[str, torch.Tensor]:
    """The same weights under torchvision's names, in its layout and for RGB input.

    Weights of a backbone alone stay so, and names that a Mask R-CNN with an FPN has not stay as they are.
    """
    result = {}
    for name, tensor in with_statistics(tensors).items():
        if name.startswith(ROOTS) and not re.fullmatch(IGNORED, name):
            renamed = _renamed(name, NAMES)
            result[renamed] = _in_layout(renamed, tensor)
    first = result.get("backbone.body.conv1.weight")
    if first is not None and facts.input_format == "BGR":
        result["backbone.body.conv1.weight"] = first.flip(1)
    return result


def _arrays(path: Path) -> dict[str, torch.Tensor]:
    """The numeric arrays of a `.pkl` file: Detectron2's have them under "model", Caffe2's under "blobs" or on top."""
    content: Any = pickles.load(path)
    for key in ("model", "blobs"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    arrays = content if isinstance(content, Mapping) else {}
    numeric = {
        str(name): torch.from_numpy(np.array(value, np.float32))
        for name, value in arrays.items()
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiu" and not str(name).endswith("_momentum")
    }
    if not numeric:
        raise BadCheckpoint(f"wanted numpy arrays by name in {path}, got {type(content).__name__} without any")
    return numeric


def _from_caffe2(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Detectron2's names and layout in place of Caffe2's, which counts the background first."""
    result = {}
    for old, tensor in tensors.items():
        name = _renamed(old, CAFFE2_NAMES)
        if name.startswith("cls_score."):
            tensor = tensor.roll(-1, 0)
        elif name.startswith(("bbox_pred.", "mask_head.predictor.")):
            tensor = tensor[4 if name.startswith("bbox") else 1 :]
        result[name] = tensor
    return result


def _with_prefix(name: str) -> str:
    for prefix, beginnings in PREFIXES.items():
        if name.startswith(beginnings):
            return _with_prefix(prefix + name)
    return name


def with_statistics(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights, with a mean of 0 and a variance of 1 where a batch norm was folded into its scale and shift."""
    result = dict(tensors)
    for name, tensor in tensors.items():
        if name.endswith(".norm.weight"):
            norm = name.removesuffix("weight")
            result.setdefault(f"{norm}running_mean", torch.zeros_like(tensor))
            result.setdefault(f"{norm}running_var", torch.ones_like(tensor))
    return result


def _in_layout(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Outputs with the background first: rows of zeros where it has none."""
    if name.startswith(f"{CLASS_SCORES}."):
        return tensor.roll(1, 0)
    if name.startswith("roi_heads.box_predictor.bbox_pred."):
        return torch.cat([tensor.new_zeros(4, *tensor.shape[1:]), tensor])
    if name.startswith("roi_heads.mask_predictor.mask_fcn_logits."):
        return torch.cat([tensor.new_zeros(1, *tensor.shape[1:]), tensor])
    return tensor


def _renamed(name: str, rules: Iterable[tuple[str, str]]) -> str:
    for pattern, place in rules:
        if (match := re.fullmatch(pattern, name)) is not None:
            name = match.expand(place)
    return name
