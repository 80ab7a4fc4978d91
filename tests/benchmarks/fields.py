"""Generated fields of many broccoli heads: what the benchmarks of speed run on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from backend.generated.broccoli import generate
from model.engines.torchvision.engine import TorchvisionEngine
from model.geometry import mask_to_polygons
from model.records import Outline, Record
from model.training.loop import Progress, Trained, TrainingConfig, train


def fields(count: int, seed: int, size: int, tiles: int) -> Iterator[tuple[np.ndarray, tuple[Outline, ...]]]:
    """So many square images of `tiles` x `tiles` fields with one to four heads each, and their outlines."""
    side = size // tiles
    made = generate(count * tiles * tiles, seed, (side, side))
    for _ in range(count):
        image, outlines = np.zeros((side * tiles, side * tiles, 3), np.uint8), []
        for tile in range(tiles * tiles):
            field = next(made)
            y, x = tile // tiles * side, tile % tiles * side
            image[y : y + side, x : x + side] = field.image
            for label, mask in zip(field.labels, field.masks, strict=True):
                whole = np.zeros(image.shape[:2], bool)
                whole[y : y + side, x : x + side] = mask
                outlines.append(Outline(label, mask_to_polygons(whole)))
        yield image, tuple(outlines)


def train_on_fields(
    engine: TorchvisionEngine,
    count: int,
    size: int,
    steps: int,
    on_progress: Callable[[Progress], object] = lambda progress: None,
    checkpoint: Path | None = None,
) -> Trained:
    """Train an engine where it is on so many fields of that size, and as many whose heads are half as large.

    With a `checkpoint` file a stopped run goes on from the last minute.
    """
    images: dict[str, np.ndarray] = {}
    records = []
    for tiles in (1, 2):
        for image, outlines in fields(count, tiles, size, tiles):
            name = f"{tiles}/{len(images)}"
            images[name] = image
            records.append(Record(name, image.shape[:2], outlines))
    torch.manual_seed(0)
    config = TrainingConfig(iterations=steps, learning_rate=4e-4, batch_size=4, warmup_iterations=30)

    def tell(progress: Progress) -> None:
        on_progress(progress)

    return train(engine, records, images.__getitem__, config, tell, checkpoint=checkpoint)


def resize_to(engine: TorchvisionEngine, shortest: int) -> None:
    """Let a network scale its images to this shortest side, and to 5/3 of it at most."""
    engine.network.transform.min_size, engine.network.transform.max_size = (shortest,), shortest * 5 // 3
