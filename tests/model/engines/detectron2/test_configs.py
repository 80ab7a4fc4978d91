from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from model.engines.base import EngineConfig
from model.engines.detectron2.configs import ZOO, facts_of, read_facts
from model.engines.loader import with_input
from model.engines.torchvision.networks import find_network, with_facts
from model.errors import BadEngine

R50 = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"
X101 = "COCO-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_3x.yaml"
FPN = '_BASE_: "../Base-RCNN-FPN.yaml"\nMODEL:\n  MASK_ON: True\n'


def write(folder: Path, text: str, name: str = "own.yaml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_the_model_zoo_is_known_by_name() -> None:
    r50, x101 = read_facts(R50), read_facts(X101)
    assert (r50.depth, r50.groups, r50.group_width, r50.stride_in_1x1) == (50, 1, 64, True)
    assert (x101.depth, x101.groups, x101.group_width, x101.stride_in_1x1) == (101, 32, 8, False)
    assert r50.pixel_std == (1, 1, 1) and x101.pixel_std == (57.375, 57.12, 58.395)
    assert r50.anchor_sizes == ((32,), (64,), (128,), (256,), (512,))
    assert (r50.rpn_candidates, r50.rpn_proposals, r50.box_bins, r50.mask_convolutions) == (1000, 1000, 7, 4)
    assert all(read_facts(name).aspect_ratios == ((0.5, 1, 2),) * 5 for name in ZOO)


def test_a_file_is_read_over_its_bases(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    write(tmp_path, FPN + "  RESNETS: {DEPTH: 101}\nINPUT: {MIN_SIZE_TEST: 600, FORMAT: RGB}\n", "middle.yaml")
    top = write(
        tmp_path / "below", '_BASE_: "../middle.yaml"\nMODEL:\n  ROI_HEADS: {NUM_CLASSES: 3}\nINPUT: {FORMAT: BGR}\n'
    )
    facts = read_facts(top)
    assert (facts.depth, facts.shortest, facts.input_format, facts.num_classes) == (101, 600, "BGR", 3)


@pytest.mark.parametrize("base", [R50, f"/opt/detectron2/configs/{R50}"])
def test_the_model_zoo_may_be_a_base(tmp_path: Path, base: str) -> None:
    own = write(tmp_path, f"_BASE_: {base}\nMODEL:\n  ANCHOR_GENERATOR:\n    SIZES: [[16], [32], [64], [128], [256]]\n")
    assert read_facts(own) == replace(read_facts(R50), anchor_sizes=((16.0,), (32.0,), (64.0,), (128.0,), (256.0,)))


def test_texts_are_read_as_the_literals_that_they_are(tmp_path: Path) -> None:
    text = FPN + "  PIXEL_STD: (2, 2.5, 3)\n  ROI_HEADS: {NMS_THRESH_TEST: '0.2'}\nSOLVER: {STEPS: (1, 2)}\n"
    facts = read_facts(write(tmp_path, text))
    assert facts.pixel_std == (2, 2.5, 3) and facts.nms_threshold == 0.2


def test_maskals_heads_are_the_stock_ones(tmp_path: Path) -> None:
    heads = (
        "  ROI_HEADS: {NAME: StandardROIHeadsDropout}\n  ROI_BOX_HEAD: {NAME: FastRCNNConvFCHeadDropout}\n"
        "  ROI_MASK_HEAD: {NAME: MaskRCNNConvUpsampleHeadDropout}\n"
    )
    assert read_facts(write(tmp_path, FPN + heads)) == read_facts(R50)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("MODEL: {MASK_ON: true}\n", "MODEL.BACKBONE.NAME is 'build_resnet_backbone'"),
        ("MODEL: {META_ARCHITECTURE: RetinaNet}\n", "MODEL.META_ARCHITECTURE is 'RetinaNet'"),
        ('_BASE_: "../Base-RCNN-FPN.yaml"\n', "MODEL.MASK_ON is False"),
        (FPN + "  KEYPOINT_ON: True\n", "MODEL.KEYPOINT_ON is True"),
        (FPN + "  RESNETS: {NORM: GN}\n", "MODEL.RESNETS.NORM is 'GN'"),
        (FPN + "  RESNETS: {RES5_DILATION: 2}\n", "MODEL.RESNETS.RES5_DILATION is 2"),
        (FPN + "  RESNETS: {DEPTH: 18}\n", "MODEL.RESNETS.DEPTH is 18"),
        (FPN + "  RESNETS: {DEFORM_ON_PER_STAGE: [False, True, True, True]}\n", "DEFORM_ON_PER_STAGE is"),
        (FPN + "  ROI_HEADS: {NAME: CascadeROIHeads}\n", "MODEL.ROI_HEADS.NAME is 'CascadeROIHeads'"),
        (FPN + "  ROI_MASK_HEAD: {NAME: PointRendMaskHead}\n", "MODEL.ROI_MASK_HEAD.NAME is 'PointRendMaskHead'"),
        (FPN + "  ROI_BOX_HEAD: {POOLER_TYPE: ROIPool}\n", "MODEL.ROI_BOX_HEAD.POOLER_TYPE is 'ROIPool'"),
        (FPN + "  RPN: {BBOX_REG_LOSS_TYPE: giou}\n", "MODEL.RPN.BBOX_REG_LOSS_TYPE is 'giou'"),
        (FPN + "  RESNETS: {NUM_GROUPS: many}\n", "MODEL.RESNETS.NUM_GROUPS must be like 1, got 'many'"),
        (FPN + "  ANCHOR_GENERATOR: {SIZES: [[32], [64]]}\n", "SIZES must have one entry or 5, got 2"),
        ("_BASE_: own.yaml\n", "chain of configs does not end"),
        ("- a list\n", "should hold"),
        ("MODEL: !!python/object/apply:os.system [echo]\n", "cannot read the Detectron2 config"),
        ("a: &a {b: 1}\nMODEL: {MASK_ON: *a}\n", "*a is a list; write it out"),
    ],
)
def test_what_cannot_be_reproduced_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(BadEngine) as caught:
        read_facts(write(tmp_path, text))
    assert named in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("COCO-InstanceSegmentation/mask_rcnn_R_50_C4_3x.yaml", "a network with 'c4'"),
        ("COCO-InstanceSegmentation/mask_rcnn_R_101_DC5_3x.yaml", "a network with 'dc5'"),
        ("Misc/cascade_mask_rcnn_R_50_FPN_3x.yaml", "a network with 'cascade'"),
        ("new_baselines/mask_rcnn_R_50_FPN_100ep_LSJ.py", "is a lazy config"),
        ("nowhere/mine.yaml", "cannot read the Detectron2 config nowhere/mine.yaml"),
    ],
)
def test_names_of_other_networks_are_refused(name: str, named: str) -> None:
    with pytest.raises(BadEngine, match=named):
        find_network(name)


def test_what_a_file_said_outlives_the_file(tmp_path: Path) -> None:
    own = write(tmp_path, FPN + "  RESNETS: {DEPTH: 101}\n")
    config = with_facts(EngineConfig(own))
    Path(own).unlink()
    stored = json.loads(json.dumps({"network": own, "network_facts": config.network_facts}))
    kept = with_input(EngineConfig("nano"), stored)
    assert kept == config == with_facts(kept)
    assert find_network(kept.network, kept.network_facts).facts == facts_of(stored["network_facts"])
    with pytest.raises(BadEngine, match="cannot read"):
        with_facts(EngineConfig(own))


def test_networks_by_name_carry_no_facts() -> None:
    assert with_facts(EngineConfig(R50)) == EngineConfig(R50)


def test_input_and_anchors_are_chosen_only_where_they_are_plain(tmp_path: Path) -> None:
    plain = find_network(R50).input
    assert plain is not None and (plain.shortest, plain.longest, plain.anchor) == (800, 1333, 32)
    sizes = "  ANCHOR_GENERATOR: {SIZES: [[32, 40], [64, 80], [128, 160], [256, 320], [512, 640]]}\n"
    assert find_network(write(tmp_path, FPN + sizes)).input is None
