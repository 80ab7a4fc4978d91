from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing

from backend.rounds import starts
from backend.rounds.folder import Round
from backend.rounds.learning import train_round
from backend.rounds.starts import check_start, keeping_of, load_start, usual_start
from model.engines.base import Engine, EngineConfig, Keeping
from model.engines.loader import build_engine
from model.errors import BadCheckpoint, BadEngine
from tests.backend.round_places import quiet, read_round, workplace

LITE_BODY, HEAD = "backbone.body.conv_stem.weight", "roi_heads.box_head.fc6.weight"
BODY, SCORES = "backbone.body.conv1.weight", "roi_heads.box_predictor.cls_score.weight"


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts, "TRAINING", replace(starts.TRAINING, iterations=2))
    monkeypatch.setattr(starts, "IMAGES", 6)


def fresh(seed: int = 0, network: str = "nano", engine: str = "torchvision") -> Engine:
    torch.manual_seed(seed)
    return build_engine(engine, ("healthy", "rust"), EngineConfig(network, image_size=(240, 320)))


def test_a_network_without_weights_starts_from_generated_images_and_trains_on_them_once(tmp_path: Path) -> None:
    told: list[int] = []
    first, second = fresh(1), fresh(2)
    own = second.tensors()[SCORES][1:].clone()
    load_start(first, None, tmp_path, "cpu", lambda progress: told.append(progress.step))
    assert told == [1, 2] and [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]
    load_start(second, "generated", tmp_path, "cpu", lambda progress: told.append(progress.step))
    assert told == [1, 2], "it is kept"
    assert torch.equal(first.tensors()[BODY], second.tensors()[BODY])
    assert torch.equal(second.tensors()[SCORES][1:], own), "no class's output is taken over, not even of the same name"


def test_training_it_twice_gives_the_same_start(tmp_path: Path) -> None:
    made = []
    for seed, name in enumerate(("here", "there")):
        engine = fresh(seed)
        load_start(engine, None, tmp_path / name, "cpu")
        made.append(engine.tensors()[BODY])
    assert torch.equal(*made)


def test_a_torn_file_is_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_start(fresh(), None, tmp_path, "cpu")
    (path,) = tmp_path.iterdir()
    path.write_bytes(b"torn")
    with caplog.at_level(logging.WARNING):
        load_start(fresh(), None, tmp_path, "cpu")
    assert "made anew" in caplog.text and path.stat().st_size > 1000


def test_nothing_is_loaded_where_it_is_not_wanted_or_not_needed(tmp_path: Path) -> None:
    for engine, wanted in ((fresh(), "none"), (fresh(engine="fake"), None)):
        before = {name: tensor.clone() for name, tensor in engine.tensors().items()}
        load_start(engine, wanted, tmp_path, "cpu")
        assert all(torch.equal(tensor, before[name]) for name, tensor in engine.tensors().items())
    assert not list(tmp_path.iterdir())


def test_lite_starts_from_imagenet_and_random_weights_keep_nothing(tmp_path: Path) -> None:
    first, other = fresh(1, "lite"), fresh(2, "lite")
    scores = first.tensors()[SCORES].clone()
    load_start(first, None, tmp_path, "cpu")
    load_start(other, "imagenet", tmp_path, "cpu")
    assert torch.equal(first.tensors()[LITE_BODY], other.tensors()[LITE_BODY])
    assert torch.equal(first.tensors()[SCORES], scores) and not list(tmp_path.iterdir())
    assert keeping_of(first, None) == keeping_of(first, "imagenet") == first.keeping == Keeping(3, 0.1)
    assert keeping_of(first, "none") == Keeping()


@pytest.mark.parametrize(
    ("network", "wanted", "start", "freeze_at"),
    [
        ("nano", None, "generated", 0),
        ("lite", "generated", "imagenet", 3),
        ("timm/resnet18", None, "imagenet", 3),
        ("maskrcnn_resnet50_fpn", None, "COCO", 2),
        ("maskrcnn_resnet50_fpn", "generated", "COCO", 0),
        ("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml", None, "none", 0),
        ("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml", "model.pth", "none", 2),
    ],
)
def test_each_networks_start_and_what_is_kept_of_it(
    network: str, wanted: str | None, start: str, freeze_at: int
) -> None:
    engine = fresh(network=network)
    assert usual_start(engine) == start and keeping_of(engine, wanted).freeze_at == freeze_at


def test_a_config_that_freezes_less_than_nothing_freezes_nothing(tmp_path: Path) -> None:
    """As Detectron2 reads a negative FREEZE_AT."""
    own = tmp_path / "own.yaml"
    own.write_text("_BASE_: Base-RCNN-FPN.yaml\nMODEL: {MASK_ON: true, BACKBONE: {FREEZE_AT: -1}}\n")
    assert keeping_of(fresh(network=str(own)), "model.pth") == Keeping(0)


def test_the_heads_of_lite_may_begin_with_generated_images_on_features_of_imagenet(tmp_path: Path) -> None:
    engine, plain = fresh(1, "lite"), fresh(1, "lite")
    load_start(engine, "generated", tmp_path, "cpu")
    load_start(plain, "imagenet", tmp_path, "cpu")
    ours, theirs = engine.tensors(), plain.tensors()
    assert [path.name.startswith("lite-") for path in tmp_path.iterdir()] == [True]
    assert torch.equal(ours[LITE_BODY], theirs[LITE_BODY]), "the stem is frozen"
    assert not torch.equal(ours[HEAD], theirs[HEAD]) and ours["norm_is_frozen"]


def test_a_network_of_detectron2_is_not_trained_on_generated_images(tmp_path: Path) -> None:
    engine = fresh(network="COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml")
    before = engine.tensors()[BODY].clone()
    load_start(engine, None, tmp_path, "cpu")
    assert torch.equal(engine.tensors()[BODY], before) and not list(tmp_path.iterdir())
    with pytest.raises(BadCheckpoint, match=r"cannot be generated for COCO-Inst.*name their file, or set none"):
        load_start(engine, "generated", tmp_path, "cpu")


def test_coco_weights_that_cannot_be_had_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = fresh(network="maskrcnn_resnet50_fpn")

    def offline() -> None:
        raise BadCheckpoint("no network")

    monkeypatch.setattr(engine, "load_coco", offline)
    for wanted in (None, "COCO"):
        with pytest.raises(BadCheckpoint, match="no network"):
            load_start(engine, wanted, tmp_path, "cpu")


def take_part(rank: int, data_dir: Path) -> None:
    """One process of a group that trains a round, from a start that is not there yet."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{data_dir}/meeting", rank=rank, world_size=2)
    starts.TRAINING, starts.IMAGES = replace(starts.TRAINING, iterations=2), 6
    place = workplace(data_dir, engine="torchvision", network_config="nano", train_iterations_base=2, device="cpu")
    train_round(place, Round(place.folder.rounds / "1"), quiet)
    distributed.destroy_process_group()


def test_a_group_of_processes_trains_its_start_together(tmp_path: Path) -> None:
    current = read_round(workplace(tmp_path), 1, {task: "a" for task in range(1, 7)})
    group = multiprocessing.spawn(take_part, (tmp_path,), 2, join=False)
    deadline = time.monotonic() + 120
    while not group.join(1):
        if time.monotonic() > deadline:
            for process in group.processes:
                process.kill()
            pytest.fail("the processes wait for each other")
    assert current.weights.exists()
    assert [path.suffix for path in (tmp_path / "cache" / "starts").iterdir()] == [".safetensors"]


ZOO = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"


@pytest.mark.parametrize(
    ("wanted", "network", "message"),
    [
        (
            ZOO,
            None,
            r"the name of a config in Detectron2's model zoo; download the weights .*give the path of that file",
        ),
        (ZOO, "nano", r"the name of a config in Detectron2's model zoo"),
        ("coco", None, "must be none, COCO, imagenet, generated or a .safetensors"),
        ("/nowhere/model.pth", None, r"cannot read weights /nowhere/model\.pth \(No such file or directory\)"),
        ("COCO", "nano", "there are no COCO weights for network 'nano'"),
        ("imagenet", "maskrcnn_resnet50_fpn", "there are no ImageNet weights for network 'maskrcnn_resnet50_fpn'"),
        ("generated", ZOO, "cannot be generated for COCO-InstanceSegmentation"),
        (None, "resnet9000", "resnet9000"),
    ],
)
def test_a_start_that_training_would_refuse_is_refused_before(
    wanted: str | None, network: str | None, message: str
) -> None:
    with pytest.raises((BadCheckpoint, BadEngine), match=message):
        check_start(wanted, network, "torchvision", ("healthy", "rust"))


def test_a_start_that_training_takes_is_taken(tmp_path: Path) -> None:
    torch.save(fresh().tensors(), tmp_path / "a.PTH")
    for wanted, network in (
        (None, None),
        ("none", "nano"),
        ("COCO", None),
        ("generated", "nano"),
        ("imagenet", "lite"),
    ):
        check_start(wanted, network, "torchvision", ("healthy", "rust"))
    check_start(str(tmp_path / "a.PTH"), "nano", "torchvision", ("healthy", "rust"))
    check_start(str(tmp_path / "a.PTH"), None, "torchvision", ("a", "b", "c"))
    check_start(None, "colours", "fake", ("a",))


def test_a_start_of_another_number_of_classes_or_of_another_network_is_refused(tmp_path: Path) -> None:
    torch.save(fresh().tensors(), tmp_path / "a.pth")
    known = r"the weights know 2 classes, and 3 were named \(a, b, c\); name each, in the order"
    with pytest.raises(BadCheckpoint, match=known):
        check_start(str(tmp_path / "a.pth"), "nano", "torchvision", ("a", "b", "c"))
    with pytest.raises(BadCheckpoint, match="do not fit network 'lite'"):
        check_start(str(tmp_path / "a.pth"), "lite", "torchvision", ("a", "b"))
