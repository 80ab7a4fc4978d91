"""Images a second in training, side by side in one run: torchvision's reference loop written plainly, and ours.

    python -m tests.benchmarks.training --json training.json

Same network, same generated photos on disk, same batch size, each from fresh weights. The reference is the loop of
torchvision's detection references: a DataLoader that reads, scales and mirrors the images anew each epoch, float32,
SGD with warm-up. The two take turns; the figures are medians over the turns.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from backend.generated.broccoli import LABELS
from backend.project.config import ProjectConfig
from model.engines.base import EngineConfig
from model.engines.torchvision.engine import TorchvisionEngine
from model.files import write_json
from tests.benchmarks.fields import resize_to
from tests.benchmarks.torchvision_loop import BATCH, WARM_STEPS
from tests.benchmarks.training_race import race, write_photos


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--network", help="[default: nano on a CPU, maskrcnn_resnet50_fpn on a GPU]")
    parser.add_argument("--size", type=int, help="shortest side of the network's input  [default: its own]")
    parser.add_argument("--original", type=int, default=640, help="side of the square photos in pixels")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--steps", type=int, default=20, help="counted steps a turn, after five that are not")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    network = options.network or ("nano" if options.device == "cpu" else "maskrcnn_resnet50_fpn")

    def build() -> TorchvisionEngine:
        engine = TorchvisionEngine(LABELS, EngineConfig(network=network))
        if options.size is not None:
            resize_to(engine, options.size)
        return engine.to(options.device)

    project = ProjectConfig(train_iterations_base=WARM_STEPS + options.steps, train_batch_size=BATCH)
    with tempfile.TemporaryDirectory() as folder:
        records = write_photos(Path(folder), options.images, options.original)
        config = project.training_config(network, records, warm=False, seed=0, device=options.device)
        report = {**race(build, records, Path(folder), config, options.turns), "original": options.original}
    print(json.dumps(report, indent=2))
    if options.json is not None:
        write_json(options.json, report)


if __name__ == "__main__":
    main()
