"""Detectron2's Mask R-CNN as its settings describe it, with MaskAL's dropout; only where Detectron2 is installed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from detectron2 import model_zoo
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.modeling.roi_heads.box_head import FastRCNNConvFCHead
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead

from model.engines.config import EngineConfig
from model.engines.dropout import Dropout
from model.errors import BadEngine


class DropoutOutputLayers(FastRCNNOutputLayers):
    """x1 = drop(x) > class scores; x2 = drop(x1) > box deltas: the regression is dropped twice."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, d) -> class logits (n, c + 1), background last, and box deltas (n, 4 * c)."""
        x1 = self.drop_scores(x)
        return self.cls_score(x1), self.bbox_pred(self.drop_boxes(x1))


def settings_for(config: EngineConfig, num_classes: int) -> CfgNode:
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


def with_settings(config: EngineConfig, settings: CfgNode) -> EngineConfig:
    """The config with all that a file said, so that the network can be built without it."""
    if config.network_facts is not None or not Path(config.network).is_file():
        return config
    return replace(config, network_facts={"settings": settings.dump()})


def build_network(settings: CfgNode, p: float) -> Any:
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


def is_not_dropout(layer: torch.nn.Module) -> bool:
    """Whether dropout leaves a layer of a head alone."""
    return not isinstance(layer, torch.nn.Dropout)
