from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from backend.cli import main
from model import checkpoints
from model.engines.base import EngineConfig
from model.engines.loader import build_engine, load_pretrained
from model.engines.torchvision.engine import TorchvisionEngine
from tests.model.engines.detectron2_files import as_detectron2

R50 = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"
OWN = f"_BASE_: {R50}\nINPUT: {{MIN_SIZE_TEST: 400}}\n"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("theirs") / "model_final.pth"
    torch.save({"model": as_detectron2(TorchvisionEngine(("a", "b"), EngineConfig(R50)).tensors())}, path)
    return path


def convert(source: Path, out: Path, *options: str, config: str = R50) -> Result:
    return CliRunner().invoke(
        main, ["weights", "convert", str(source), "--config", config, "--out", str(out), *options]
    )


def test_a_converted_file_says_what_it_is_and_is_loaded(source: Path, tmp_path: Path) -> None:
    config = tmp_path / "own.yaml"
    config.write_text(OWN)
    shown = convert(source, tmp_path / "leaf.safetensors", "--classes", "leaf, spot", config=str(config))
    assert (shown.exit_code, "2 classes (leaf, spot)" in shown.output) == (0, True)
    config.unlink()
    tensors, metadata = checkpoints.load(tmp_path / "leaf.safetensors")
    stored = json.loads(metadata["config"])
    assert (metadata["engine"], json.loads(metadata["classes"])) == ("torchvision", ["leaf", "spot"])
    assert stored["network_facts"]["shortest"] == 400
    engine = build_engine(
        "torchvision", ("spot",), EngineConfig(str(config), network_facts=stored["network_facts"], image_size=(64, 96))
    )
    load_pretrained(engine, str(tmp_path / "leaf.safetensors"), ("spot",))
    name = "roi_heads.box_predictor.cls_score.weight"
    assert torch.equal(engine.tensors()[name], tensors[name][[0, 2]])


def test_a_backbone_alone_is_completed_the_same_way_each_time(source: Path, tmp_path: Path) -> None:
    weights = torch.load(source)["model"]
    arrays = {name: tensor.numpy() for name, tensor in weights.items() if name.startswith("backbone.bottom_up")}
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps({"model": arrays}))
    for name in ("one", "two"):
        shown = convert(tmp_path / "R-50.pkl", tmp_path / f"{name}.safetensors", "--classes", "leaf")
        assert shown.exit_code == 0 and "holds a backbone alone" in shown.output
    one, two = (checkpoints.load(tmp_path / f"{name}.safetensors")[0] for name in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("options", "config", "name", "message"),
    [
        (("--classes", "a,b,c"), R50, "w.safetensors", "the weights know 2 classes, and 3 names were given"),
        ((), R50, "w.safetensors", "the weights know 2 classes, and 0 names were given"),
        (("--classes", "a,b"), "nano", "w.safetensors", "--config must be a Detectron2 config"),
        (("--classes", "a,b"), R50.replace("50_FPN", "50_C4"), "w.safetensors", "a network with 'c4'"),
        (("--classes", "a,b"), R50.replace("R_50", "R_101"), "w.safetensors", "weights do not fit network"),
        (("--classes", "a,b"), R50, "w.pth", "wanted a .safetensors file in a folder that exists"),
        (("--classes", "a,b"), R50, "nowhere/w.safetensors", "wanted a .safetensors file in a folder that exists"),
    ],
)
def test_a_mistake_is_one_line(
    source: Path, tmp_path: Path, options: tuple[str, ...], config: str, name: str, message: str
) -> None:
    shown = convert(source, tmp_path / name, *options, config=config)
    lines = shown.output.strip().splitlines()
    assert shown.exit_code == 1 and len(lines) == 1
    assert lines[0].startswith("maskal: ") and message in lines[0]


def test_other_weights_are_refused(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(1)}, tmp_path / "w.pth")
    shown = convert(tmp_path / "w.pth", tmp_path / "w.safetensors")
    assert shown.exit_code == 1 and "got other names, such as 'fc.weight'" in shown.output
