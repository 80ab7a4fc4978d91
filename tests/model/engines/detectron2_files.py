"""Weights as Detectron2 names and lays them out, made from a network of ours: the way back, written out by hand."""

from __future__ import annotations

from collections.abc import Mapping

import torch

STRAIGHT = {
    "rpn.head.conv.0.0.": "proposal_generator.rpn_head.conv.",
    "rpn.head.cls_logits.": "proposal_generator.rpn_head.objectness_logits.",
    "rpn.head.bbox_pred.": "proposal_generator.rpn_head.anchor_deltas.",
    "roi_heads.box_head.fc6.": "roi_heads.box_head.fc1.",
    "roi_heads.box_head.fc7.": "roi_heads.box_head.fc2.",
    "roi_heads.mask_head.0.0.": "roi_heads.mask_head.mask_fcn1.",
    "roi_heads.mask_head.1.0.": "roi_heads.mask_head.mask_fcn2.",
    "roi_heads.mask_head.2.0.": "roi_heads.mask_head.mask_fcn3.",
    "roi_heads.mask_head.3.0.": "roi_heads.mask_head.mask_fcn4.",
    "roi_heads.mask_predictor.conv5_mask.": "roi_heads.mask_head.deconv.",
    "backbone.body.bn1.": "backbone.bottom_up.stem.conv1.norm.",
    "backbone.body.conv1.": "backbone.bottom_up.stem.conv1.",
    "backbone.fpn.inner_blocks.0.0.": "backbone.fpn_lateral2.",
    "backbone.fpn.inner_blocks.1.0.": "backbone.fpn_lateral3.",
    "backbone.fpn.inner_blocks.2.0.": "backbone.fpn_lateral4.",
    "backbone.fpn.inner_blocks.3.0.": "backbone.fpn_lateral5.",
    "backbone.fpn.layer_blocks.0.0.": "backbone.fpn_output2.",
    "backbone.fpn.layer_blocks.1.0.": "backbone.fpn_output3.",
    "backbone.fpn.layer_blocks.2.0.": "backbone.fpn_output4.",
    "backbone.fpn.layer_blocks.3.0.": "backbone.fpn_output5.",
}


def as_detectron2(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of one of our networks as Detectron2 stores them, for BGR input."""
    result = {
        "pixel_mean": torch.zeros(3, 1, 1),
        "proposal_generator.anchor_generator.cell_anchors.0": torch.zeros(3, 4),
    }
    for name, tensor in tensors.items():
        start = next((start for start in STRAIGHT if name.startswith(start)), None)
        if start is not None:
            result[name.replace(start, STRAIGHT[start])] = (
                tensor.flip(1) if name == "backbone.body.conv1.weight" else tensor
            )
        elif "cls_score" in name:
            result[name] = torch.cat([tensor[1:], tensor[:1]])
        elif "bbox_pred" in name:
            result[name] = tensor[4:]
        elif "mask_fcn_logits" in name:
            result[name.replace("mask_predictor.mask_fcn_logits", "mask_head.predictor")] = tensor[1:]
        elif ".layer" in name:
            _, _, layer, block, kind, *rest = name.split(".")
            place = {"downsample": "shortcut"}.get(kind, f"conv{kind[-1]}")
            is_norm = kind.startswith("bn") or rest[0] == "1"
            path = f"backbone.bottom_up.res{int(layer[-1]) + 1}.{block}.{place}"
            result[f"{path}.norm.{rest[-1]}" if is_norm else f"{path}.{rest[-1]}"] = tensor
    return result
