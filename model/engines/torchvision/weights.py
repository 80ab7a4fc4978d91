"""Weights from elsewhere fitted to a torchvision network: other classes, COCO, files without our own buffers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

from model.engines.detectron2.weights import COCO_CLASSES, class_names, from_detectron2, is_detectron2, num_classes
from model.engines.torchvision.imagenet import backbone_of_classifier, imagenet_backbone, is_classifier
from model.engines.torchvision.networks import NORM_IS_FROZEN, Network, find_network
from model.errors import BadCheckpoint, BadEngine

CLASS_SCORES = "roi_heads.box_predictor.cls_score"
CLASS_ROWS = {
    CLASS_SCORES: 1,
    "roi_heads.box_predictor.bbox_pred": 4,
    "roi_heads.mask_predictor.mask_fcn_logits": 1,
}
"""Layers with outputs per class, and how many rows a class has there (background is class 0)."""


def fitted(
    own: Mapping[str, torch.Tensor],
    own_classes: tuple[str, ...],
    other: Mapping[str, torch.Tensor],
    other_classes: tuple[str, ...],
    network: str,
) -> dict[str, torch.Tensor]:
    """The other weights for a network that has its own; of rows per class those of classes that both know, by name.

    Weights that were not trained here freeze the batch norm. Raises BadCheckpoint if they are not of this network.
    """
    optional = {name: value for name, value in own.items() if name.endswith("num_batches_tracked")}
    other = {**optional, NORM_IS_FROZEN: torch.tensor(True), **other}
    missing = sorted(own.keys() - other.keys())
    if missing:
        raise BadCheckpoint(
            f"weights do not fit network {network!r}: {len(missing)} tensors are missing, the "
            f"first is {missing[0]!r}; choose the network that the file was trained with"
        )
    _check_count(other, other_classes)
    result = {}
    for name, value in own.items():
        rows = CLASS_ROWS.get(name.rpartition(".")[0])
        if rows is not None and own_classes != other_classes and other[name].shape[1:] == value.shape[1:]:
            result[name] = _by_class(value, own_classes, other[name], other_classes, rows)
        elif other[name].shape == value.shape:
            result[name] = other[name]
        else:
            raise BadCheckpoint(
                f"weights do not fit network {network!r}: {name} should have shape "
                f"{tuple(value.shape)}, got {tuple(other[name].shape)}; choose the network that the file was "
                "trained with"
            )
    return result


def _check_count(other: Mapping[str, torch.Tensor], classes: tuple[str, ...]) -> None:
    """BadCheckpoint that names the classes if weights know another number of them."""
    known = len(other[f"{CLASS_SCORES}.weight"]) - 1
    if known != len(classes):
        raise BadCheckpoint(
            f"the weights know {known} classes, and {len(classes)} were named ({', '.join(classes)}); name each, "
            "in the order that they were trained in"
        )


def translated(
    own: Mapping[str, torch.Tensor],
    own_classes: tuple[str, ...],
    other: Mapping[str, torch.Tensor],
    other_classes: tuple[str, ...],
    network: Network,
) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """Detectron2's weights, or those of a classifier of timm's, as the network has them, and their classes.

    Others are as they are. Of a backbone alone the rest is the network's own. Raises BadCheckpoint if they are of
    another kind of network.
    """
    if network.timm is not None and is_classifier(other):
        return with_backbone(own, backbone_of_classifier(network.timm, other)), own_classes
    if not is_detectron2(other):
        return dict(other), other_classes
    facts = network.facts
    if facts is None:
        raise BadCheckpoint(
            "these are Detectron2's weights; set network_config to the config that they were trained with, such as "
            "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"
        )
    known = num_classes(other)
    is_coco = known == len(COCO_CLASSES) != len(other_classes)
    names = own_classes if known is None else class_names(other, None if is_coco else other_classes)
    tensors = from_detectron2(other, facts)
    if unknown := sorted(tensors.keys() - own.keys()):
        raise BadCheckpoint(
            f"weights do not fit the Detectron2 config: {len(unknown)} tensors have no place in it, the first is "
            f"{unknown[0]!r}; give the config that they were trained with"
        )
    return ({**own, **tensors} if known is None else tensors), names


def coco_weights(network: str) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """torchvision's COCO weights of a network and their class names, through torchvision's own (cached) download."""
    weights = find_network(network).coco_weights
    if weights is None:
        raise BadEngine(f"there are no COCO weights for network {network!r}; set pretrained_weights: none")
    try:
        tensors = weights.get_state_dict(progress=False, check_hash=True)
    except OSError as err:
        raise BadCheckpoint(
            f"the COCO weights of {network} could not be downloaded ({err}); allow the network, "
            f"or fetch {weights.url} elsewhere and set pretrained_weights to the file's path, or set network_config: "
            "lite, whose weights are installed"
        ) from err
    if weights is MaskRCNN_ResNet50_FPN_Weights.COCO_V1:
        tensors = _for_eps(tensors, 1e-5)
    return dict(tensors), tuple(weights.meta["categories"][1:])


def imagenet_weights(own: Mapping[str, torch.Tensor], network: str, kind: Network) -> dict[str, torch.Tensor]:
    """A network's own weights with a backbone that was trained on ImageNet; BadEngine if there are none of it."""
    if kind.timm is None:
        raise BadEngine(
            f"there are no ImageNet weights for network {network!r}; set network_config to lite or to a backbone of "
            "timm's, or pretrained_weights to something else"
        )
    return with_backbone(own, imagenet_backbone(kind.timm))


def with_backbone(own: Mapping[str, torch.Tensor], backbone: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A network's own weights with another backbone, whose batch norm is frozen; BadCheckpoint if it does not fit."""
    wrong = next((name for name, value in backbone.items() if own[name].shape != value.shape), None)
    if wrong is not None:
        raise BadCheckpoint(
            f"weights do not fit the backbone: {wrong} should have shape {tuple(own[wrong].shape)}, got "
            f"{tuple(backbone[wrong].shape)}; choose the network that the file was trained with"
        )
    return {**own, **backbone, NORM_IS_FROZEN: torch.tensor(True)}


def _by_class(
    own: torch.Tensor, own_classes: tuple[str, ...], other: torch.Tensor, other_classes: tuple[str, ...], rows: int
) -> torch.Tensor:
    merged = own.clone()
    merged[:rows] = other[:rows]
    for new, label in enumerate(own_classes, start=1):
        if label in other_classes:
            old = other_classes.index(label) + 1
            merged[new * rows : (new + 1) * rows] = other[old * rows : (old + 1) * rows]
    return merged


def _for_eps(tensors: Mapping[str, torch.Tensor], eps: float) -> dict[str, torch.Tensor]:
    """Batch norm statistics that were made for an epsilon of 0, as torchvision's oldest weights were, for `eps`."""
    return {
        name: (value - eps).clamp(min=0) if name.endswith("running_var") else value for name, value in tensors.items()
    }
