"""Images a second in training, side by side in one run: torchvision's reference loop written plainly, and ours.

    python -m tests.benchmarks.training --json training.json

Same network, same generated photos on disk, same batch size, each from fresh weights. The reference is the loop of
torchvision's detection references: a DataLoader that reads, scales and mirrors the images anew each epoch, float32,
SGD with warm-up. The two take turns; the figures are medians over the turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.ops import masks_to_boxes
from torchvision.transforms import v2

from backend.generated.broccoli import LABELS
from backend.project.config import ProjectConfig
from model.engines.base import EngineConfig
from model.engines.torchvision.engine import TorchvisionEngine
from model.files import write_json
from model.geometry import polygons_to_mask
from model.records import Record
from model.training.loop import Progress, train
from tests.benchmarks.fields import fields, resize_to
from tests.benchmarks.scoring import device_name, now

BATCH = 4
WARM_STEPS = 5


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
    with tempfile.TemporaryDirectory() as folder:
        records = write_photos(Path(folder), options.images, options.original)
        seconds: dict[str, list[float]] = {"reference": [], "ours": []}
        for _ in range(options.turns):
            for name, way in (("reference", train_plainly), ("ours", train_ours)):
                torch.manual_seed(0)
                engine = TorchvisionEngine(LABELS, EngineConfig(network=network))
                if options.size is not None:
                    resize_to(engine, options.size)
                seconds[name].append(way(engine.to(options.device), records, Path(folder), options.steps))
    rates = {name: options.steps * BATCH / statistics.median(taken) for name, taken in seconds.items()}
    report = {
        "images_per_s": {name: round(rate, 3) for name, rate in rates.items()},
        "ratio": round(statistics.median(a / b for a, b in zip(*seconds.values(), strict=True)), 3),
        "seconds": {name: [round(s, 3) for s in taken] for name, taken in seconds.items()},
        "network": network,
        "size": engine.training_size_hw[0],
        "original": options.original,
        "device": device_name(engine),
    }
    print(json.dumps(report, indent=2))
    if options.json is not None:
        write_json(options.json, report)


def write_photos(folder: Path, count: int, size: int) -> list[Record]:
    """Generated photos as JPEG files, and their records."""
    records = []
    for index, (image, outlines) in enumerate(fields(count, 7, size, 2)):
        name = f"{index:03d}.jpg"
        cv2.imwrite(str(folder / name), image[..., ::-1])
        records.append(Record(name, image.shape[:2], outlines))
    return records


def read(path: Path) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


class PlainDataset(Dataset[tuple[torch.Tensor, dict[str, torch.Tensor]]]):
    """As torchvision's references have it: an image and its masks from disk and outlines, mirrored by chance."""

    def __init__(self, records: Sequence[Record], folder: Path, classes: Sequence[str]) -> None:
        self.records, self.folder, self.classes = records, folder, tuple(classes)
        self.transform = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.RandomHorizontalFlip(0.5)])

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        record = self.records[index]
        image = tv_tensors.Image(torch.from_numpy(read(self.folder / record.image)).permute(2, 0, 1))
        stacked = np.stack([polygons_to_mask(o.parts, record.size_hw) for o in record.outlines])
        image, masks = self.transform(image, tv_tensors.Mask(torch.from_numpy(stacked).to(torch.uint8)))
        labels = torch.tensor([self.classes.index(o.label) + 1 for o in record.outlines])
        is_there = masks.flatten(1).any(1)
        boxes = masks_to_boxes(masks[is_there])
        has_size = (boxes[:, 2:] > boxes[:, :2]).all(1)
        return image, {
            "boxes": boxes[has_size],
            "labels": labels[is_there][has_size],
            "masks": masks[is_there][has_size],
        }


def plain_loader(
    records: Sequence[Record], folder: Path, classes: Sequence[str], device: torch.device
) -> DataLoader[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
    """Batches as torchvision's references make them; images without objects are left out, as there."""
    return DataLoader(
        PlainDataset([r for r in records if r.outlines], folder, classes),
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=0 if device.type == "cpu" else 4,
        persistent_workers=device.type != "cpu",
        collate_fn=lambda batch: tuple(zip(*batch, strict=True)),
    )


def train_plainly(engine: TorchvisionEngine, records: Sequence[Record], folder: Path, steps: int) -> float:
    """Seconds that torchvision's reference loop takes for so many steps."""
    torch.backends.cudnn.allow_tf32 = True  # as torch has it, where our engine turns it off
    model, device = engine.network.train(), engine.device
    loader = plain_loader(records, folder, LABELS, device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.005, momentum=0.9, weight_decay=1e-4)
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.001, total_iters=100)
    started = 0.0
    for step, (images, targets) in enumerate(endless(loader)):
        if step == WARM_STEPS:
            started = now(engine)
        if step == WARM_STEPS + steps:
            return now(engine) - started
        plain_step(model, optimizer, images, targets)
        warm_up.step()
    raise AssertionError("an endless loader ended")


def plain_step(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Sequence[torch.Tensor],
    targets: Sequence[dict[str, torch.Tensor]],
) -> None:
    device = next(model.parameters()).device
    losses = model([i.to(device) for i in images], [{k: v.to(device) for k, v in t.items()} for t in targets])
    optimizer.zero_grad()
    sum(losses.values()).backward()
    optimizer.step()


def endless(loader: DataLoader) -> Iterator[tuple[Sequence[torch.Tensor], Sequence[dict[str, torch.Tensor]]]]:
    while True:
        yield from loader


def train_ours(engine: TorchvisionEngine, records: Sequence[Record], folder: Path, steps: int) -> float:
    """Seconds that a round's training takes for so many steps."""
    config = ProjectConfig(train_iterations_base=WARM_STEPS + steps, train_batch_size=BATCH)
    moments: list[float] = []

    def note(progress: Progress) -> None:
        if progress.step in (WARM_STEPS, WARM_STEPS + steps):
            moments.append(now(engine))

    training = config.training_config(engine.config.network, records, warm=False, seed=0, device=engine.device.type)
    train(engine, records, lambda name: read(folder / name), training, note)
    return moments[1] - moments[0]


if __name__ == "__main__":
    main()
