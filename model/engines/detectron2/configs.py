"""What a Detectron2 config says of a Mask R-CNN, read as plain data: model-zoo names, and YAML files of one's own.

Keys are written out, `MODEL.RESNETS.DEPTH`. What a config does not say is as Detectron2 has it by default; what it
says and this project cannot reproduce is refused by its name. Solver, data sets and the like are not looked at.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from model.errors import BadEngine
from model.written_out import WrittenOut

SUFFIXES = (".yaml", ".yml", ".py")
BASE = "_BASE_"
LONGEST_CHAIN = 10

FPN: dict[str, Any] = {
    "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
    "MODEL.RESNETS.OUT_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL.FPN.IN_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64], [128], [256], [512]],
    "MODEL.RPN.IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 2000,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 1000,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 1000,
    "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
    "MODEL.ROI_HEADS.IN_FEATURES": ["p2", "p3", "p4", "p5"],
    "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 4,
}
MASKS: dict[str, Any] = {**FPN, "MODEL.MASK_ON": True}
X101: dict[str, Any] = {
    "MODEL.PIXEL_STD": [57.375, 57.120, 58.395],
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
    "MODEL.RESNETS.NUM_GROUPS": 32,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
    "MODEL.RESNETS.DEPTH": 101,
}
ZOO: dict[str, dict[str, Any]] = {
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml": MASKS,
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml": MASKS,
    "COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x.yaml": {**MASKS, "MODEL.RESNETS.DEPTH": 101},
    "COCO-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_3x.yaml": {**MASKS, **X101},
}
BASES = {"Base-RCNN-FPN.yaml": FPN, **ZOO}
"""What the configs of the model zoo say, for those who name them as a network or as the base of their own."""


@dataclass(frozen=True)
class Facts:
    """A Mask R-CNN with an FPN, as far as configs differ; pairs of numbers are for training and for prediction.

    pixel_mean, pixel_std   in 0..255 and in the order of `input_format`
    anchor_sizes            of each of the five levels, pixels of the input
    box_bins, box_samples   of RoIAlign, samples 0: as many as a bin has cells; likewise for masks
    num_classes, score_threshold, nms_threshold   what the config itself would predict with; a project has its own
    """

    depth: int
    groups: int
    group_width: int
    stride_in_1x1: bool
    norm: str
    freeze_at: int
    fpn_channels: int
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    input_format: str
    shortest: int
    longest: int
    anchor_sizes: tuple[tuple[float, ...], ...]
    aspect_ratios: tuple[tuple[float, ...], ...]
    anchor_offset: float
    rpn_batch: int
    rpn_nms_threshold: float
    rpn_candidates_train: int
    rpn_candidates: int
    rpn_proposals_train: int
    rpn_proposals: int
    box_batch: int
    box_bins: int
    box_samples: int
    box_pooler: str
    box_channels: int
    mask_bins: int
    mask_samples: int
    mask_pooler: str
    mask_channels: int
    mask_convolutions: int
    num_classes: int
    score_threshold: float
    nms_threshold: float

    def as_json(self) -> dict[str, Any]:
        """The facts as JSON has them, lists in place of tuples; `facts_of` reads them."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain


KEYS: dict[str, tuple[str, Any]] = {
    "depth": ("MODEL.RESNETS.DEPTH", 50),
    "groups": ("MODEL.RESNETS.NUM_GROUPS", 1),
    "group_width": ("MODEL.RESNETS.WIDTH_PER_GROUP", 64),
    "stride_in_1x1": ("MODEL.RESNETS.STRIDE_IN_1X1", True),
    "norm": ("MODEL.RESNETS.NORM", "FrozenBN"),
    "freeze_at": ("MODEL.BACKBONE.FREEZE_AT", 2),
    "fpn_channels": ("MODEL.FPN.OUT_CHANNELS", 256),
    "pixel_mean": ("MODEL.PIXEL_MEAN", (103.53, 116.28, 123.675)),
    "pixel_std": ("MODEL.PIXEL_STD", (1.0, 1.0, 1.0)),
    "input_format": ("INPUT.FORMAT", "BGR"),
    "shortest": ("INPUT.MIN_SIZE_TEST", 800),
    "longest": ("INPUT.MAX_SIZE_TEST", 1333),
    "anchor_sizes": ("MODEL.ANCHOR_GENERATOR.SIZES", ((32.0, 64.0, 128.0, 256.0, 512.0),)),
    "aspect_ratios": ("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", ((0.5, 1.0, 2.0),)),
    "anchor_offset": ("MODEL.ANCHOR_GENERATOR.OFFSET", 0.0),
    "rpn_batch": ("MODEL.RPN.BATCH_SIZE_PER_IMAGE", 256),
    "rpn_nms_threshold": ("MODEL.RPN.NMS_THRESH", 0.7),
    "rpn_candidates_train": ("MODEL.RPN.PRE_NMS_TOPK_TRAIN", 12000),
    "rpn_candidates": ("MODEL.RPN.PRE_NMS_TOPK_TEST", 6000),
    "rpn_proposals_train": ("MODEL.RPN.POST_NMS_TOPK_TRAIN", 2000),
    "rpn_proposals": ("MODEL.RPN.POST_NMS_TOPK_TEST", 1000),
    "box_batch": ("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 512),
    "box_bins": ("MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 14),
    "box_samples": ("MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO", 0),
    "box_pooler": ("MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIAlignV2"),
    "box_channels": ("MODEL.ROI_BOX_HEAD.FC_DIM", 1024),
    "mask_bins": ("MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION", 14),
    "mask_samples": ("MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO", 0),
    "mask_pooler": ("MODEL.ROI_MASK_HEAD.POOLER_TYPE", "ROIAlignV2"),
    "mask_channels": ("MODEL.ROI_MASK_HEAD.CONV_DIM", 256),
    "mask_convolutions": ("MODEL.ROI_MASK_HEAD.NUM_CONV", 0),
    "num_classes": ("MODEL.ROI_HEADS.NUM_CLASSES", 80),
    "score_threshold": ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.05),
    "nms_threshold": ("MODEL.ROI_HEADS.NMS_THRESH_TEST", 0.5),
}
"""Where each fact stands in a config, and Detectron2's default."""

ONLY: dict[str, tuple[Any, ...]] = {
    "MODEL.META_ARCHITECTURE": ("GeneralizedRCNN",),
    "MODEL.BACKBONE.NAME": ("build_resnet_fpn_backbone",),
    "MODEL.MASK_ON": (True,),
    "MODEL.KEYPOINT_ON": (False,),
    "MODEL.LOAD_PROPOSALS": (False,),
    "MODEL.RESNETS.DEPTH": (50, 101, 152),
    "MODEL.RESNETS.NORM": ("FrozenBN", "BN", "SyncBN", "nnSyncBN"),
    "MODEL.RESNETS.OUT_FEATURES": (["res2", "res3", "res4", "res5"],),
    "MODEL.RESNETS.RES5_DILATION": (1,),
    "MODEL.RESNETS.RES2_OUT_CHANNELS": (256,),
    "MODEL.RESNETS.STEM_OUT_CHANNELS": (64,),
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": ([False] * 4,),
    "MODEL.FPN.IN_FEATURES": (["res2", "res3", "res4", "res5"],),
    "MODEL.FPN.NORM": ("",),
    "MODEL.FPN.FUSE_TYPE": ("sum",),
    "MODEL.PROPOSAL_GENERATOR.NAME": ("RPN",),
    "MODEL.PROPOSAL_GENERATOR.MIN_SIZE": (0,),
    "MODEL.ANCHOR_GENERATOR.NAME": ("DefaultAnchorGenerator",),
    "MODEL.RPN.HEAD_NAME": ("StandardRPNHead",),
    "MODEL.RPN.IN_FEATURES": (["p2", "p3", "p4", "p5", "p6"],),
    "MODEL.RPN.CONV_DIMS": ([-1],),
    "MODEL.RPN.BOUNDARY_THRESH": (-1,),
    "MODEL.RPN.IOU_THRESHOLDS": ([0.3, 0.7],),
    "MODEL.RPN.POSITIVE_FRACTION": (0.5,),
    "MODEL.RPN.BBOX_REG_WEIGHTS": ([1.0, 1.0, 1.0, 1.0],),
    "MODEL.RPN.BBOX_REG_LOSS_TYPE": ("smooth_l1",),
    "MODEL.ROI_HEADS.NAME": ("StandardROIHeads", "StandardROIHeadsDropout", "MonteCarloDropoutHead"),
    "MODEL.ROI_HEADS.IN_FEATURES": (["p2", "p3", "p4", "p5"],),
    "MODEL.ROI_HEADS.IOU_THRESHOLDS": ([0.5],),
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": (0.25,),
    "MODEL.ROI_BOX_HEAD.NAME": ("FastRCNNConvFCHead", "FastRCNNConvFCHeadDropout"),
    "MODEL.ROI_BOX_HEAD.NUM_FC": (2,),
    "MODEL.ROI_BOX_HEAD.NUM_CONV": (0,),
    "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": (False,),
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": ([10.0, 10.0, 5.0, 5.0],),
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": ("smooth_l1",),
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": ("ROIAlignV2", "ROIAlign"),
    "MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES": (False,),
    "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": (False,),
    "MODEL.ROI_BOX_HEAD.USE_FED_LOSS": (False,),
    "MODEL.ROI_MASK_HEAD.NAME": ("MaskRCNNConvUpsampleHead", "MaskRCNNConvUpsampleHeadDropout"),
    "MODEL.ROI_MASK_HEAD.NORM": ("",),
    "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK": (False,),
    "MODEL.ROI_MASK_HEAD.POOLER_TYPE": ("ROIAlignV2", "ROIAlign"),
    "INPUT.FORMAT": ("BGR", "RGB"),
    "TEST.AUG.ENABLED": (False,),
}
"""What can be reproduced, Detectron2's default first where it is among them; MaskAL's heads have the stock weights."""

DEFAULTS: dict[str, Any] = {
    "MODEL.BACKBONE.NAME": "build_resnet_backbone",
    "MODEL.MASK_ON": False,
    "MODEL.RESNETS.OUT_FEATURES": ["res4"],
    "MODEL.FPN.IN_FEATURES": [],
    "MODEL.RPN.IN_FEATURES": ["res4"],
    "MODEL.ROI_HEADS.NAME": "Res5ROIHeads",
    "MODEL.ROI_HEADS.IN_FEATURES": ["res4"],
    "MODEL.ROI_BOX_HEAD.NAME": "",
    "MODEL.ROI_BOX_HEAD.NUM_FC": 0,
}
"""Detectron2's defaults where they are not among those: they make a network without an FPN or without masks."""

OTHER_KINDS = ("_c4_", "_dc5_", "cascade", "dconv", "_gn", "syncbn", "keypoint", "retinanet", "panoptic", "pointrend")
"""Parts of the names of configs that are not on the disk and would be of no use either."""


def is_config(name: str) -> bool:
    """Whether a network's name is one of Detectron2's or the path of such a config."""
    return name.endswith(SUFFIXES)


def read_facts(name: str) -> Facts:
    """What a model-zoo name or a YAML file with its `_BASE_` chain says; BadEngine names what does not fit."""
    content = ZOO[name] if name in ZOO else _read(name, Path(), 0)
    settings = {key: _plain(value) for key, value in content.items()}
    _refuse(name, settings)
    found = {fact: _like(default, settings.get(key, default), name, key) for fact, (key, default) in KEYS.items()}
    for fact, levels in (("anchor_sizes", 5), ("aspect_ratios", 5)):
        found[fact] = found[fact] * levels if len(found[fact]) == 1 else found[fact]
        if len(found[fact]) != levels:
            raise BadEngine(f"{name}: {KEYS[fact][0]} must have one entry or {levels}, got {len(found[fact])}")
    return Facts(**found)


def facts_of(stored: Mapping[str, Any]) -> Facts:
    """Facts as `Facts.as_json` wrote them; BadEngine if they are not all there."""
    try:
        return Facts(**{field.name: _tuple(stored[field.name]) for field in fields(Facts)})
    except KeyError as err:
        raise BadEngine(f"the stored network lacks {err}; give the config that the weights were trained with") from err


class _Loader(WrittenOut, yaml.SafeLoader):
    """Plain data."""


def _read(name: str, folder: Path, depth: int) -> dict[str, Any]:
    """Keys and values of a config, those of its bases first."""
    path = folder / Path(name).expanduser()
    known = next((base for base in BASES if path.as_posix().endswith(f"/{base}") or name == base), None)
    if name.endswith(".py"):
        raise BadEngine(f"{name} is a lazy config, which is a program; name the YAML config of the same network")
    if depth == LONGEST_CHAIN:
        raise BadEngine(f"the {BASE} chain of configs does not end within {LONGEST_CHAIN} files, last {name}")
    if known is not None and not path.exists():
        return dict(BASES[known])
    other = next((part for part in OTHER_KINDS if part in name.lower()), None)
    if other is not None and not path.exists():
        raise BadEngine(
            f"{name} names a network with {other.strip('_')!r}, which this project does not reproduce; take one of "
            f"{_names()}"
        )
    try:
        content = yaml.load(path.read_text(), _Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as err:
        reason = str(err.strerror) if isinstance(err, OSError) else " ".join(str(err).split())
        raise BadEngine(
            f"cannot read the Detectron2 config {name} ({reason}); give the path of a YAML file, or one of {_names()}"
        ) from err
    if not isinstance(content, dict):
        raise BadEngine(f"{name} should hold `NAME: value` lines, got {type(content).__name__}")
    base = content.pop(BASE, None)
    below = {} if base is None else _read(str(base), path.parent, depth + 1)
    return {**below, **dict(_flat(content))}


def _flat(content: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _plain(value: Any) -> Any:
    """A value as Detectron2 reads it: a text that is a Python literal, such as "(800, 1333)", is that literal."""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            return value
    return _list(value)


def _refuse(name: str, settings: Mapping[str, Any]) -> None:
    for key, allowed in ONLY.items():
        value = settings.get(key, DEFAULTS.get(key, allowed[0]))
        if value not in allowed:
            raise BadEngine(
                f"{name}: {key} is {value!r}, and this project reproduces {' or '.join(map(repr, allowed))} only: a "
                f"Mask R-CNN with a ResNet and an FPN, such as {_names()}"
            )


def _like(default: Any, value: Any, name: str, key: str) -> Any:
    """A value with the type of the default; BadEngine if it has another."""
    if isinstance(default, tuple):
        if isinstance(value, list | tuple) and len(value):
            items = [value] if isinstance(default[0], tuple) and not isinstance(value[0], list | tuple) else value
            return tuple(_like(default[0], item, name, key) for item in items)
    elif type(value) is type(default) or (isinstance(default, float) and type(value) is int):
        return type(default)(value)
    raise BadEngine(f"{name}: {key} must be like {_list(default)!r}, got {value!r}")


def _list(value: Any) -> Any:
    return [_list(item) for item in value] if isinstance(value, list | tuple) else value


def _tuple(value: Any) -> Any:
    return tuple(_tuple(item) for item in value) if isinstance(value, list) else value


def _names() -> str:
    return ", ".join(ZOO)
