"""The training loop of torchvision's detection references, written plainly: what ours is measured against.

A DataLoader reads, scales and mirrors the images anew each epoch; float32, SGD with warm-up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.ops import masks_to_boxes
from torchvision.transforms import v2

from model.engines.torchvision.engine import TorchvisionEngine
from model.geometry import polygons_to_mask
from model.records import Record
from tests.benchmarks.scoring import now

BATCH = 4
WARM_STEPS = 5
"""At the beginning of a measured run, not counted."""


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
        is_there = masks.flatten(1).bool().any(1)
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
    torch.backends.cudnn.allow_tf32 = True  # as torch has it; the next engine that goes to a GPU turns it off
    model, device = engine.network.train(), engine.device
    loader = plain_loader(records, folder, engine.classes, device)
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
