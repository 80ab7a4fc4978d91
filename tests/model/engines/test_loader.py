from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from model import checkpoints
from model.engines.base import Engine, EngineConfig
from model.engines.loader import ENGINES, build_engine, load_alone, load_pretrained, load_version
from model.errors import BadCheckpoint, BadEngine
from model.registry import Registry, Version, VersionFields
from model.stored_weights import add_version

CLASSES = ("red", "blue")
COLOURS = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.1, 0.9]])


def fake_engine(*classes: str) -> Engine:
    return build_engine("fake", classes or CLASSES, EngineConfig())


def colours(engine: Engine) -> torch.Tensor:
    return engine.tensors()["colours"]


def stored_version(registry: Registry, engine: str = "fake") -> Version:
    fields = VersionFields(
        number=1,
        classes=CLASSES,
        engine=engine,
        config={"network": "nano"},
        metrics={},
        parent=None,
        data_digest="abc",
        promoted=True,
        reason="first version",
    )
    return add_version(registry, fields, {"colours": COLOURS})


@pytest.mark.parametrize("name", [name for name in ENGINES if name != "detectron2"])
def test_every_engine_is_built_by_its_name(name: str) -> None:
    engine = build_engine(name, CLASSES, EngineConfig(dropout_probability=0.1))
    assert (engine.name, engine.classes, engine.config.dropout_probability) == (name, CLASSES, 0.1)
    assert not engine.network.training


def test_an_unknown_engine_names_the_known_ones() -> None:
    with pytest.raises(BadEngine, match="engine must be one of torchvision, detectron2, fake, got 'yolo'"):
        build_engine("yolo", CLASSES, EngineConfig())


def test_an_engine_that_is_not_installed_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "detectron2", None)
    monkeypatch.delitem(sys.modules, "model.engines.detectron2.engine", raising=False)
    with pytest.raises(BadEngine, match=r"'detectron2' cannot be imported .*install it .* by its own guide \(https://"):
        build_engine("detectron2", CLASSES, EngineConfig())


def test_none_leaves_the_weights_as_they_are() -> None:
    engine = fake_engine()
    before = colours(engine).clone()
    load_pretrained(engine, "none", CLASSES)
    assert torch.equal(colours(engine), before)


def test_a_safetensors_file_names_its_own_classes(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    checkpoints.save(path, {"colours": COLOURS}, {"classes": json.dumps(["blue", "red"])})
    engine = fake_engine()
    load_pretrained(engine, str(path), ("something", "else"))
    assert torch.equal(colours(engine), COLOURS.flip(0))


def test_a_safetensors_file_without_classes_takes_the_given_ones(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    checkpoints.save(path, {"colours": COLOURS}, {})
    engine = fake_engine()
    load_pretrained(engine, str(path), ("blue", "red"))
    assert torch.equal(colours(engine), COLOURS.flip(0))


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
def test_a_torch_file_takes_the_given_classes(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    torch.save({"colours": COLOURS}, path)
    engine = fake_engine()
    load_pretrained(engine, str(path), ("blue", "red"))
    assert torch.equal(colours(engine), COLOURS.flip(0))


def test_classes_the_file_does_not_know_start_fresh(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"colours": COLOURS}, path)
    engine = fake_engine("green", "blue")
    before = colours(engine).clone()
    load_pretrained(engine, str(path), CLASSES)
    assert torch.equal(colours(engine), torch.stack([before[0], COLOURS[1]]))


@pytest.mark.parametrize("weights", ["w.onnx", "coco", "None", ""])
def test_an_unknown_kind_of_weights_is_refused(weights: str) -> None:
    with pytest.raises(
        BadCheckpoint,
        match=f"must be none, COCO, imagenet, generated or a .safetensors, .pth, .pt or .pkl file, got '{weights}'",
    ):
        load_pretrained(fake_engine(), weights, CLASSES)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.pkl"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadCheckpoint, match=f"cannot read weights .*{name}"):
        load_pretrained(fake_engine(), str(tmp_path / name), CLASSES)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"other": COLOURS}, path)
    with pytest.raises(BadCheckpoint, match="do not fit"):
        load_pretrained(fake_engine(), str(path), CLASSES)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torchvision", "no COCO weights for network 'nano'; set pretrained_weights: none"),
        ("fake", "engine 'fake' has no COCO weights; set pretrained_weights: none"),
    ],
)
def test_coco_is_refused_by_a_network_that_has_none(name: str, message: str) -> None:
    engine = build_engine(name, CLASSES, EngineConfig(network="nano"))
    assert not engine.has_coco_weights
    with pytest.raises(BadEngine, match=message):
        load_pretrained(engine, "COCO", CLASSES)


def test_a_registered_version_comes_back_with_its_weights_and_classes(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    engine = load_version(registry, stored_version(registry), EngineConfig(confidence_threshold=0.7))
    assert (engine.name, engine.classes, engine.config.confidence_threshold) == ("fake", CLASSES, 0.7)
    assert torch.equal(colours(engine), COLOURS)


def test_a_registered_version_keeps_its_own_network(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    engine = load_version(registry, stored_version(registry), EngineConfig(network="maskrcnn_resnet50_fpn"))
    assert engine.config.network == "nano"


def test_a_version_of_an_engine_that_is_gone_is_refused(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    version = stored_version(registry, engine="yolo")
    with pytest.raises(BadEngine, match="got 'yolo'"):
        load_version(registry, version, EngineConfig())


def test_a_checkpoint_alone_tells_its_network_and_classes(tmp_path: Path) -> None:
    metadata = {"engine": "fake", "classes": json.dumps(CLASSES), "config": json.dumps({"network": "theirs"})}
    checkpoints.save(tmp_path / "a.safetensors", {"colours": COLOURS}, metadata)
    engine = load_alone(tmp_path / "a.safetensors", EngineConfig(confidence_threshold=0.7), None, ())
    assert (engine.name, engine.classes, engine.config.network) == ("fake", CLASSES, "theirs")
    assert engine.config.confidence_threshold == 0.7 and torch.equal(colours(engine), COLOURS)
    named = load_alone(tmp_path / "a.safetensors", EngineConfig(), "another", CLASSES)
    assert named.config.network == "another"
    with pytest.raises(BadCheckpoint, match="was trained for red, blue, not for red; leave them out"):
        load_alone(tmp_path / "a.safetensors", EngineConfig(), None, ("red",))


def test_a_checkpoint_that_tells_nothing_needs_both(tmp_path: Path) -> None:
    own = build_engine("torchvision", CLASSES, EngineConfig("nano"))
    torch.save(own.tensors(), tmp_path / "a.pth")
    engine = load_alone(tmp_path / "a.pth", EngineConfig("nano"), "nano", CLASSES)
    assert all(torch.equal(tensor, engine.tensors()[name]) for name, tensor in own.tensors().items())
    for network, classes in ((None, CLASSES), ("nano", ())):
        with pytest.raises(BadCheckpoint, match=r"does not tell its network and classes; give them \(--network"):
            load_alone(tmp_path / "a.pth", EngineConfig(), network, classes)


@pytest.mark.parametrize("given", [("red",), ("red", "blue", "green"), ("a", "b", "c", "d")])
def test_a_wrong_number_of_classes_names_them(tmp_path: Path, given: tuple[str, ...]) -> None:
    """Not the network: that is right."""
    torch.save(build_engine("torchvision", CLASSES, EngineConfig("nano")).tensors(), tmp_path / "a.pth")
    named = rf"the weights know 2 classes, and {len(given)} were named \({', '.join(given)}\); name each, in the order"
    with pytest.raises(BadCheckpoint, match=named):
        load_alone(tmp_path / "a.pth", EngineConfig(), "nano", given)
    other = build_engine("torchvision", ("x", "y", "z"), EngineConfig("nano"))
    with pytest.raises(BadCheckpoint, match=named):
        load_pretrained(other, str(tmp_path / "a.pth"), given)
