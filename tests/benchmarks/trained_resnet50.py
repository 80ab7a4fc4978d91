"""A ResNet-50 FPN that was trained on generated fields: what speed and order of scores are measured on.

    python -m tests.benchmarks.trained_resnet50 --weights r50.safetensors [--steps 600]
    python -m tests.benchmarks.trained_resnet50 --weights r50.safetensors --order 24 [--size 320] [--json order.json]
    python -m tests.benchmarks.scoring --weights r50.safetensors

The first trains from random weights on fields of 320 px, which takes a CPU an hour or two; stopped, it goes on from the
last minute. The second scores so many other fields fast and exactly, each four times, and compares their orders. Heads
are as large in pixels at 800 px (four fields) as at 320 px (one field).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from backend.generated.broccoli import LABELS
from model import checkpoints
from model.engines.base import EngineConfig
from model.engines.torchvision.engine import TorchvisionEngine
from model.files import write_json
from model.judging.evaluation import detections_of, evaluate, truth_of
from model.records import Record
from model.training.loop import Progress
from tests.benchmarks import fidelity
from tests.benchmarks.fields import fields, resize_to, train_on_fields
from tests.benchmarks.fitted_resnet50 import loaded_resnet50

SIZE, COUNT = 320, 120
PASSES = 20
TOLD_EVERY = 20
BOXES, PROPOSALS = 48, 300
"""Of an image in training: fewer than torchvision's 512 and 2,000, as these fields show few heads."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--order", type=int, help="images whose order is compared  [default: none, it is trained]")
    parser.add_argument("--size", type=int, default=SIZE, choices=(320, 800))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.order is None:
        train(options.weights, options.steps, options.device)
        report = quality(loaded_resnet50(options.weights, options.device, SIZE))
    else:
        engine = loaded_resnet50(options.weights, options.device, options.size)
        images = [image for image, _ in fields(options.order, 99, options.size, 2)]
        report = fidelity.measure(engine, images, PASSES)
    print(json.dumps(report, indent=2))
    if options.json is not None:
        write_json(options.json, report)


def train(weights: Path, steps: int, device: str) -> None:
    """Train from random weights, or from where an earlier run was stopped, and write the weights."""
    torch.manual_seed(0)
    engine = TorchvisionEngine(LABELS, EngineConfig(network="maskrcnn_resnet50_fpn"))
    resize_to(engine, SIZE)
    network = engine.to(device).network
    network.rpn._post_nms_top_n["training"] = PROPOSALS
    network.roi_heads.fg_bg_sampler.batch_size_per_image = BOXES
    state = weights.with_suffix(".state")

    def tell(progress: Progress) -> None:
        if progress.step % TOLD_EVERY == 0:
            print(f"step {progress.step} of {progress.steps}, loss {progress.loss:.3f}", flush=True)

    train_on_fields(engine, COUNT, SIZE, steps, tell, checkpoint=state)
    checkpoints.save(weights, engine.tensors(), {})
    state.unlink(missing_ok=True)


def quality(engine: TorchvisionEngine) -> dict[str, object]:
    """Mask AP on fields that it has not seen, of four parts each."""
    made = list(fields(20, 97, SIZE, 2))
    truths = [truth_of(Record(str(i), image.shape[:2], found), LABELS) for i, (image, found) in enumerate(made)]
    found = [detections_of(engine.predict(image, confidence_threshold=0.05)) for image, _ in made]
    result = evaluate(truths, found, LABELS).as_dict()
    return {name: result[name] for name in ("mask_ap", "mask_ap50", "mask_ap50_any_class")}


if __name__ == "__main__":
    main()
