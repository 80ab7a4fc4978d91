"""Images per second of `maskal auto-annotate`, beside those of the bare model on images that lie decoded in memory.

    python -m tests.benchmarks.auto_annotate --network nano --side 2400 --json auto_annotate.json

Generated fields, LabelMe files beside them. Ours loads the network, reads, decodes, predicts, outlines and writes; the
bare model predicts, in batches of the same size. They take turns; the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from backend.folders.auto_annotate import AutoAnnotateOptions, auto_annotate
from backend.generated.broccoli import LABELS
from backend.rounds.scoring import images_at_once
from backend.rounds.starts import CLASSES, generated_start
from backend.settings import Settings
from model import checkpoints
from model.engines.base import EngineConfig
from model.engines.loader import load_alone
from model.engines.torchvision.engine import TorchvisionEngine
from model.files import write_json
from tests.benchmarks.fields import fields
from tests.benchmarks.fitted_resnet50 import fitted_resnet50
from tests.benchmarks.scoring import device_name, now

TILES = 2
REPEATS = 5

STARTS = Path(__file__).parents[1] / "artefacts"
"""Keeps the small network's start from one run to the next; not part of the repository."""

SIZE = 800
"""Shortest side of the large network's input, pixels."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=("nano", "maskrcnn_resnet50_fpn"), default="nano")
    parser.add_argument("--side", type=int, default=800, help="of the square images in pixels")
    parser.add_argument("--images", type=int, default=240)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        weights = save_weights(Path(folder), options.network, options.device)
        report = measure(Path(folder), weights, options.images, options.side, options.device)
    print(json.dumps(report, indent=2))
    if options.json is not None:
        write_json(options.json, report)


def save_weights(folder: Path, network: str, device: str) -> Path:
    """A checkpoint of a network that finds the heads; the small one is trained for some minutes the first time."""
    config = EngineConfig(network)
    if network == "nano":
        classes: tuple[str, ...] = CLASSES
        tensors = generated_start(TorchvisionEngine(classes, config), STARTS, device, lambda progress: None)
    else:
        classes, tensors = LABELS, fitted_resnet50(device, SIZE).tensors()
    facts = {"engine": "torchvision", "classes": json.dumps(classes), "config": json.dumps({"network": network})}
    checkpoints.save(folder / "weights.safetensors", tensors, facts)
    return folder / "weights.safetensors"


def measure(folder: Path, weights: Path, count: int, side: int, device: str) -> dict[str, object]:
    """Images per second both ways, and their ratio."""
    photos = folder / "photos"
    photos.mkdir()
    images = [image for image, _ in fields(count, 5, side, TILES)]
    for number, image in enumerate(images):
        cv2.imwrite(str(photos / f"{number}.jpg"), image[..., ::-1])
    engine = load_alone(weights, EngineConfig(), None, ()).to(device)
    if not isinstance(engine, TorchvisionEngine):
        raise TypeError(f"wanted a torchvision engine, got {engine.name}")
    bare(engine, images[:2])  # the first call of all takes longer
    seconds: dict[str, list[float]] = {"bare": [], "ours": []}
    objects = 0
    for _ in range(REPEATS):
        started = now(engine)
        bare(engine, images)
        seconds["bare"].append(now(engine) - started)
        wanted = AutoAnnotateOptions(photos, "labelme", weights, overwrite=True, device=device)
        started = time.perf_counter()
        objects = auto_annotate(Settings(data_dir=folder), wanted).objects
        seconds["ours"].append(time.perf_counter() - started)
    medians = {way: statistics.median(taken) for way, taken in seconds.items()}
    return {
        "images_per_s": {way: round(count / taken, 3) for way, taken in medians.items()},
        "ratio": round(medians["ours"] / medians["bare"], 3),
        "images": count,
        "side": side,
        "objects": objects,
        "network": engine.config.network,
        "device": device_name(engine),
    }


def bare(engine: TorchvisionEngine, images: list[np.ndarray]) -> None:
    """Predict all images and keep nothing."""
    at_once = images_at_once(engine)
    for start in range(0, len(images), at_once):
        for encoded in engine.encode(images[start : start + at_once]):
            engine.decode(encoded)


if __name__ == "__main__":
    main()
