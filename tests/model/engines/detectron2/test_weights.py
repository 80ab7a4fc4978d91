from __future__ import annotations

import pickle
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from model.engines.base import EngineConfig
from model.engines.detectron2 import weights as detectron2_weights
from model.engines.detectron2.configs import read_facts
from model.engines.detectron2.weights import COCO_CLASSES, class_names, from_detectron2, is_detectron2, num_classes
from model.engines.loader import build_engine, load_pretrained
from model.engines.torchvision.engine import TorchvisionEngine
from model.engines.torchvision.networks import NORM_IS_FROZEN
from model.errors import BadCheckpoint
from tests.model.engines.detectron2_files import as_detectron2

R50 = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"
R101 = "COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x.yaml"
CLASSES = ("leaf", "spot")


def made(seed: int = 0, network: str = R50) -> TorchvisionEngine:
    torch.manual_seed(seed)
    return TorchvisionEngine(CLASSES, EngineConfig(network))


@cache
def weights() -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in made().tensors().items() if name != NORM_IS_FROZEN}


@cache
def theirs() -> dict[str, torch.Tensor]:
    return as_detectron2(weights())


def differing(got: dict[str, torch.Tensor]) -> list[str]:
    return sorted(name for name, tensor in weights().items() if not torch.equal(got[name], tensor))


def test_every_weight_has_its_place() -> None:
    assert is_detectron2(theirs()) and not is_detectron2(weights())
    got = from_detectron2(theirs(), read_facts(R50))
    assert got.keys() == weights().keys()
    rest = ("box_predictor.bbox_pred", "mask_predictor.mask_fcn_logits")
    assert differing(got) == [f"roi_heads.{layer}.{part}" for layer in rest for part in ("bias", "weight")]
    boxes, masks = (got[f"roi_heads.{layer}.weight"] for layer in rest)
    assert not boxes[:4].any() and torch.equal(boxes[4:], weights()["roi_heads.box_predictor.bbox_pred.weight"][4:])
    assert not masks[:1].any() and torch.equal(
        masks[1:], weights()["roi_heads.mask_predictor.mask_fcn_logits.weight"][1:]
    )


def test_statistics_that_were_folded_in_are_none() -> None:
    folded = {name: tensor for name, tensor in theirs().items() if "running" not in name}
    got = from_detectron2(folded, read_facts(R50))
    assert not got["backbone.body.bn1.running_mean"].any()
    assert (got["backbone.body.layer3.5.bn2.running_var"] == 1).all()


def test_coco_has_80_classes_in_detectron2s_order() -> None:
    assert (len(COCO_CLASSES), COCO_CLASSES[0], COCO_CLASSES[-1]) == (80, "person", "toothbrush")
    assert COCO_CLASSES.index("stop sign") == 11


def test_classes_are_counted_and_named() -> None:
    assert num_classes(theirs()) == 2
    assert class_names(theirs(), CLASSES) == CLASSES
    coco = {"roi_heads.box_predictor.cls_score.weight": torch.zeros(81, 4)}
    assert class_names(coco, None) == COCO_CLASSES
    with pytest.raises(BadCheckpoint, match="know 2 classes, and 3 names were given"):
        class_names(theirs(), ("a", "b", "c"))
    with pytest.raises(BadCheckpoint, match="know 2 classes, and 0 names were given"):
        class_names(theirs(), None)


@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
def test_a_file_of_detectron2_is_what_to_start_from(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model_final{suffix}"
    if suffix == ".pth":
        torch.save({"model": theirs(), "iteration": 9}, path)
    else:
        arrays = {name: tensor.numpy() for name, tensor in theirs().items()}
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "Detectron2 Model Zoo"}))
    engine = made(seed=1)
    load_pretrained(engine, str(path), CLASSES)
    assert len(differing(engine.tensors())) == 4, "all but the background's rows"


def caffe2_name(name: str) -> str | None:
    """A backbone's names as Caffe2 has them."""
    if not name.startswith("backbone.bottom_up."):
        return None
    name = name.removeprefix("backbone.bottom_up.")
    for new, old in (
        (".norm.weight", "_bn_s"),
        (".norm.bias", "_bn_b"),
        (".norm.running_mean", "_bn_rm"),
        (".norm.running_var", "_bn_riv"),
        (".weight", "_w"),
        ("stem.conv1_bn", "res_conv1_bn"),
        ("stem.", ""),
        (".conv1", "_branch2a"),
        (".conv2", "_branch2b"),
        (".conv3", "_branch2c"),
        (".shortcut", "_branch1"),
        (".", "_"),
    ):
        name = name.replace(new, old)
    return name


def test_a_backbone_under_caffe2s_names_leaves_the_heads_as_they_are(tmp_path: Path) -> None:
    arrays = {caffe2_name(name): tensor.numpy() for name, tensor in theirs().items() if caffe2_name(name)}
    assert {"conv1_w", "res_conv1_bn_s", "res2_0_branch1_w", "res5_2_branch2c_bn_b"} <= arrays.keys()
    extra = {"fc1000_w": np.zeros((9, 9), np.float32), "conv1_w_momentum": arrays["conv1_w"]}
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps({**arrays, **extra}, protocol=2))
    engine = made(seed=1)
    before = {name: tensor.clone() for name, tensor in engine.tensors().items()}
    load_pretrained(engine, str(path), CLASSES)
    got = engine.tensors()
    body = [name for name in weights() if name.startswith("backbone.body")]
    assert all(torch.equal(got[name], weights()[name]) for name in body)
    assert all(torch.equal(got[name], before[name]) for name in weights() if name not in body)


def test_caffe2s_heads_count_the_background_first(tmp_path: Path) -> None:
    arrays = {
        "res2_0_branch2a_w": np.zeros((1, 1, 1, 1), np.float32),
        "cls_score_w": np.array([[9], [1], [2]], np.float32),
        "bbox_pred_b": np.arange(12, dtype=np.float32),
        "mask_fcn_logits_b": np.array([7, 1, 2], np.float32),
        "_[mask]_fcn3_w": np.ones(1, np.float32),
        "fpn_inner_res5_2_sum_w": np.ones(2, np.float32),
        "fpn_inner_res2_2_sum_lateral_b": np.ones(3, np.float32),
        "fpn_res4_5_sum_b": np.ones(4, np.float32),
        "conv_rpn_fpn2_w": np.ones(5, np.float32),
        "rpn_cls_logits_fpn2_b": np.ones(6, np.float32),
        "rpn_bbox_pred_fpn2_b": np.ones(7, np.float32),
        "fc6_w": np.ones(8, np.float32),
    }
    path = tmp_path / "model_final.pkl"
    path.write_bytes(pickle.dumps({"blobs": arrays, "cfg": "a text"}))
    got = detectron2_weights.read(path)
    assert got["roi_heads.box_predictor.cls_score.weight"].flatten().tolist() == [1, 2, 9]
    assert got["roi_heads.box_predictor.bbox_pred.bias"].tolist() == [4, 5, 6, 7, 8, 9, 10, 11]
    assert got["roi_heads.mask_head.predictor.bias"].tolist() == [1, 2]
    assert {name: len(tensor) for name, tensor in got.items() if name.startswith(("backbone.fpn", "proposal"))} == {
        "backbone.fpn_lateral5.weight": 2,
        "backbone.fpn_lateral2.bias": 3,
        "backbone.fpn_output4.bias": 4,
        "proposal_generator.rpn_head.conv.weight": 5,
        "proposal_generator.rpn_head.objectness_logits.bias": 6,
        "proposal_generator.rpn_head.anchor_deltas.bias": 7,
    }
    assert "roi_heads.mask_head.mask_fcn3.weight" in got and "roi_heads.box_head.fc1.weight" in got


def test_a_deeper_network_is_not_cut_to_fit() -> None:
    deeper = {**theirs(), "backbone.bottom_up.res4.22.conv1.weight": torch.zeros(1)}
    with pytest.raises(BadCheckpoint, match=r"1 tensors have no place in it, the first is 'backbone\.body\.layer3\.22"):
        made().load_tensors(deeper, CLASSES)


def test_a_shallower_network_is_not_filled_up() -> None:
    with pytest.raises(BadCheckpoint, match="tensors are missing"):
        made(network=R101).load_tensors(theirs(), CLASSES)


def test_another_network_asks_for_the_config() -> None:
    with pytest.raises(BadCheckpoint, match="set network_config to the config"):
        build_engine("torchvision", CLASSES, EngineConfig("nano")).load_tensors(theirs(), CLASSES)


@pytest.mark.parametrize(
    ("content", "told"), [("a text", "wanted numpy arrays by name"), (np.array([None], object), "'O8', no numbers")]
)
def test_a_pickle_without_arrays_of_numbers_is_refused(tmp_path: Path, content: object, told: str) -> None:
    path = tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps({"model": {"a": content}}))
    with pytest.raises(BadCheckpoint, match=told):
        detectron2_weights.read(path)
