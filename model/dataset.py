"""Training samples: an image and its outlines, scaled to the network's size and augmented."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from model.engines.base import Target
from model.errors import BadRecord
from model.geometry import polygons_to_mask
from model.records import Polygon, Record

Sample = tuple[torch.Tensor, Target]


def scaled_size(size_hw: tuple[int, int], shortest: int, longest: int) -> tuple[int, int]:
    """Height and width after scaling to a shortest side, without passing the longest."""
    scale = min(shortest / min(size_hw), longest / max(size_hw))
    return max(1, round(size_hw[0] * scale)), max(1, round(size_hw[1] * scale))


def scaled_image(image: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """A uint8 (h, w, 3) image at another size, the same way for training and prediction; free of aliasing."""
    shrinks = size_hw[0] < image.shape[0]
    return cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def augmentation() -> v2.Transform:
    """Mirroring along both axes and mild changes of light and colour."""
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(0.5),
            v2.RandomVerticalFlip(0.5),
            v2.RandomApply([v2.ColorJitter(brightness=0.25, contrast=0.25, saturation=0.25, hue=0.02)], p=0.5),
        ]
    )


@dataclass(frozen=True, eq=False)
class _Scaled:
    image: np.ndarray  # (h, w, 3) uint8 at the network's size
    masks: np.ndarray  # (n, h, w) uint8
    labels: np.ndarray  # (n,) int64


class RecordDataset(Dataset[Sample]):
    """Records as samples for an engine's losses: ((3, h, w) float in 0..1, Target).

    `load_image` turns a record's image name into RGB uint8 (h, w, 3). Each image is loaded and scaled
    once and kept in memory at the network's size. Outlines smaller than a pixel there are left out.
    """

    def __init__(
        self,
        records: Sequence[Record],
        classes: Sequence[str],
        load_image: Callable[[str], np.ndarray],
        training_size_hw: tuple[int, int],
        transform: v2.Transform | None = None,
    ) -> None:
        self.records = tuple(records)
        self.labels = {name: index for index, name in enumerate(classes)}
        self.load_image = load_image
        self.shortest, self.longest = training_size_hw
        self.transform = transform
        self._scaled: dict[int, _Scaled] = {}

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Sample:
        if index not in self._scaled:
            self._scaled[index] = self._scale(self.records[index])
        scaled = self._scaled[index]
        image = tv_tensors.Image(torch.from_numpy(scaled.image).permute(2, 0, 1))
        masks = tv_tensors.Mask(torch.from_numpy(scaled.masks))
        if self.transform is not None:
            image, masks = self.transform(image, masks)
        target = Target(boxes_of(masks), torch.from_numpy(scaled.labels), masks.as_subclass(torch.Tensor))
        return image.as_subclass(torch.Tensor).float() / 255, target

    def _scale(self, record: Record) -> _Scaled:
        image = self.load_image(record.image)
        height, width = scaled_size(record.size_hw, self.shortest, self.longest)
        factor = np.array([width / record.size_hw[1], height / record.size_hw[0]])
        masks, labels = [], []
        for outline in record.outlines:
            parts = tuple(Polygon(p.exterior * factor, tuple(hole * factor for hole in p.holes)) for p in outline.parts)
            mask = polygons_to_mask(parts, (height, width))
            if mask.any():
                masks.append(mask.astype(np.uint8))
                labels.append(self._label(outline.label, record))
        stacked = np.stack(masks) if masks else np.zeros((0, height, width), np.uint8)
        return _Scaled(scaled_image(image, (height, width)), stacked, np.array(labels, np.int64))

    def _label(self, name: str, record: Record) -> int:
        if name not in self.labels:
            raise BadRecord(
                f"label {name!r} of image {record.image} is not a class of the engine ({', '.join(self.labels)}); "
                "add the class or leave the object out"
            )
        return self.labels[name]


def boxes_of(masks: torch.Tensor) -> torch.Tensor:
    """Boxes (n, 4) float32 around masks (n, h, w) without an empty one; pixel column 0 spans x = 0..1."""
    boxes = torch.zeros((len(masks), 4), dtype=torch.float32)
    for box, mask in zip(boxes, masks, strict=True):
        ys, xs = torch.where(mask.as_subclass(torch.Tensor))
        box[:] = torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
    return boxes


def collate(samples: Sequence[Sample]) -> tuple[list[torch.Tensor], list[Target]]:
    """A batch as an engine takes it: images of different sizes stay a list."""
    return [image for image, _ in samples], [target for _, target in samples]
