"""Training samples: an image and its outlines, scaled to the network's size and augmented."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from model.engines.base import Target
from model.errors import BadRecord
from model.geometry import polygons_to_mask
from model.records import Polygon, Record
from model.scaling import AREA, Scaling
from model.training.augmentation import GROUND_RGB, Augmentation, moved

Sample = tuple[torch.Tensor, Target]

KEPT_BYTES = 3e9
"""Memory for images at the network's size; those beyond it are loaded and scaled anew each time."""


@dataclass(frozen=True)
class Showing:
    """One showing of an image: which one, and the seed of its augmentation."""

    index: int
    seed: int = 0


@dataclass(frozen=True, eq=False)
class _Object:
    """A mask cut to the window that holds it: pixels (h, w) uint8, 0 or 255, and where the window lies."""

    pixels: np.ndarray
    left: int
    top: int
    label: int


@dataclass(frozen=True, eq=False)
class _Scaled:
    """An image (h, w, 3) uint8 at the network's size, and its objects there."""

    image: np.ndarray
    objects: tuple[_Object, ...]

    @property
    def nbytes(self) -> int:
        return self.image.nbytes + sum(thing.pixels.nbytes for thing in self.objects)


class RecordDataset:
    """Records as samples for an engine's losses: ((3, h, w) float in 0..1, Target).

    `load_image` turns a record's image name into RGB uint8 (h, w, 3). Images are loaded and scaled once as far as
    there is memory for them, and kept at the network's size. Outlines smaller than a pixel there are left out.
    Several threads may take samples at once.
    """

    def __init__(
        self,
        records: Sequence[Record],
        classes: Sequence[str],
        load_image: Callable[[str], np.ndarray],
        training_size_hw: tuple[int, int],
        augmentation: Augmentation | None = None,
        kept_bytes: float = KEPT_BYTES,
        scaling: Scaling = AREA,
    ) -> None:
        self.records = tuple(records)
        self.labels = {name: index for index, name in enumerate(classes)}
        self.load_image = load_image
        self.shortest, self.longest = training_size_hw
        self.augmentation = augmentation
        self.kept_bytes = kept_bytes
        self.scaling = scaling
        self._scaled: dict[int, _Scaled] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.records)

    def sample(self, showing: Showing) -> Sample:
        """An image as it is shown that time; without augmentation always the same."""
        scaled = self._take(showing.index)
        size_hw = scaled.image.shape[:2]
        image, placement = scaled.image, None
        if self.augmentation is not None:
            rng = np.random.default_rng(showing.seed)
            placement = self.augmentation.placement(size_hw, rng)
            image = self.augmentation.relight(moved(image, placement, size_hw, GROUND_RGB), rng)
        masks, boxes, labels = [], [], []
        for thing in scaled.objects:
            window = _Window.of(thing, placement, size_hw)
            if window is not None:
                masks.append(window.mask(size_hw))
                boxes.append(window.box_xyxy)
                labels.append(thing.label)
        pixels = np.multiply(image.transpose(2, 0, 1), np.float32(1 / 255), dtype=np.float32, order="C")
        target = Target(
            torch.from_numpy(np.array(boxes, np.float32).reshape(-1, 4)),
            torch.from_numpy(np.array(labels, np.int64)),
            torch.from_numpy(np.stack(masks) if masks else np.zeros((0, *size_hw), np.uint8)),
        )
        return torch.from_numpy(pixels), target

    def _take(self, index: int) -> _Scaled:
        known = self._scaled.get(index)
        if known is not None:
            return known
        scaled = self._scale(self.records[index])
        if self._bytes + scaled.nbytes <= self.kept_bytes:
            self._scaled[index] = scaled
            self._bytes += scaled.nbytes
        return scaled

    def _scale(self, record: Record) -> _Scaled:
        image = self.load_image(record.image)
        height, width = self.scaling.size(record.size_hw, self.shortest, self.longest)
        factor = np.array([width / record.size_hw[1], height / record.size_hw[0]])
        objects = []
        for outline in record.outlines:
            parts = tuple(Polygon(p.exterior * factor, tuple(hole * factor for hole in p.holes)) for p in outline.parts)
            mask = polygons_to_mask(parts, (height, width))
            if mask.any():
                window = _Window.around(mask, 0, 0)
                objects.append(
                    _Object(window.pixels * 255, window.left, window.top, self._label(outline.label, record))
                )
        return _Scaled(self.scaling.image(image, (height, width)), tuple(objects))

    def _label(self, name: str, record: Record) -> int:
        if name not in self.labels:
            raise BadRecord(
                f"label {name!r} of image {record.image} is not a class of the engine ({', '.join(self.labels)}); "
                "add the class or leave the object out"
            )
        return self.labels[name]


@dataclass(frozen=True, eq=False)
class _Window:
    """The part of a canvas that holds a mask: pixels (h, w) uint8, 0 or 1, without an empty rim."""

    pixels: np.ndarray
    left: int
    top: int

    @classmethod
    def around(cls, mask: np.ndarray, left: int, top: int) -> _Window:
        """A mask that is not empty, cut to its pixels; left and top are where it lies."""
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        pixels = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return cls(pixels.astype(np.uint8), left + int(columns[0]), top + int(rows[0]))

    @classmethod
    def of(cls, thing: _Object, placement: np.ndarray | None, size_hw: tuple[int, int]) -> _Window | None:
        """An object on a canvas where its points go as `placement` (2, 3) says; None if nothing of it is left there."""
        if placement is None:
            return cls(thing.pixels // 255, thing.left, thing.top)
        height, width = thing.pixels.shape
        corners = np.array([[thing.left, thing.top], [thing.left + width, thing.top + height]], float)
        placed = corners @ placement[:, :2].T + placement[:, 2]
        left, top = np.floor(placed.min(0)).clip(0).astype(int)
        right, bottom = np.ceil(placed.max(0)).clip(None, size_hw[::-1]).astype(int)
        if right <= left or bottom <= top:
            return None
        inside = placement.copy()
        inside[:, 2] += placement[:, :2] @ corners[0] - (left, top)
        mask = moved(thing.pixels, inside, (bottom - top, right - left), (0,)) >= 128
        return cls.around(mask, int(left), int(top)) if mask.any() else None

    @property
    def box_xyxy(self) -> tuple[int, int, int, int]:
        """The box around the pixels; pixel column 0 spans x = 0..1."""
        height, width = self.pixels.shape
        return self.left, self.top, self.left + width, self.top + height

    def mask(self, size_hw: tuple[int, int]) -> np.ndarray:
        """The whole canvas (h, w) uint8."""
        canvas = np.zeros(size_hw, np.uint8)
        left, top, right, bottom = self.box_xyxy
        canvas[top:bottom, left:right] = self.pixels
        return canvas


def collate(samples: Sequence[Sample]) -> tuple[list[torch.Tensor], list[Target]]:
    """A batch as an engine takes it: images of different sizes stay a list."""
    return [image for image, _ in samples], [target for _, target in samples]
