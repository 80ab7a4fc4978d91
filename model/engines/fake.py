"""A tiny engine that tells objects by their colour: trains in seconds, for tests of everything around an engine.

It follows the same protocol and passes the same contract tests as the real ones, and needs no GPU. It
looks for pixels near each class's learned mean colour; dropout on the colours makes its passes differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import nn

from model.engines.base import EngineConfig, Keeping, Target
from model.engines.dropout import Dropout
from model.engines.selection import MOST_PROPOSALS
from model.errors import BadCheckpoint, BadEngine
from model.instances import Instances, Proposals
from model.scaling import AREA

REACH = 0.2
"""Largest distance, in RGB of 0..1, between a pixel and its class's colour."""
GRID = 64
"""Longest side of the grid on which the fake looks."""


class ColourNetwork(nn.Module):
    """One colour per class, and dropout that shifts it."""

    def __init__(self, num_classes: int, p: float) -> None:
        super().__init__()
        self.colours = nn.Parameter(torch.linspace(0.1, 0.9, num_classes)[:, None].repeat(1, 3))
        self.drop = Dropout(p)

    def forward(self, passes: int) -> torch.Tensor:
        """Colours of each pass, (t, c, 3)."""
        shift = self.drop(torch.full((passes, *self.colours.shape), 0.1)) - 0.1
        return self.colours + 0.2 * shift


@dataclass(frozen=True, eq=False)
class Encoded:
    """The image on the small grid, (h, w, 3) float in 0..1, and its size."""

    small: torch.Tensor
    original_hw: tuple[int, int]


class FakeEngine:
    """See `base.Engine`."""

    name = "fake"
    scaling = AREA

    def __init__(self, classes: Sequence[str], config: EngineConfig) -> None:
        self.classes = tuple(classes)
        self.config = config
        self.network = ColourNetwork(len(self.classes), config.dropout_probability).eval()

    @property
    def input_range(self) -> None:
        """There is no choice."""
        return None

    @property
    def training_size_hw(self) -> tuple[int, int]:
        """Shortest and longest side of training images in pixels."""
        return GRID, GRID

    def encode(self, images: Sequence[np.ndarray], *, exact: bool = False) -> list[Encoded]:
        """The images on the small grid."""
        return [self.features(image) for image in images]

    @torch.no_grad()
    def decode(
        self, encoded: Encoded, *, confidence_threshold: float | None = None, any_class: bool = False
    ) -> Instances:
        """The ordinary prediction: connected pixels that are near a class's colour."""
        threshold = self.config.confidence_threshold if confidence_threshold is None else confidence_threshold
        return self._find(encoded, self.network(1)[0], 0.0 if any_class else threshold)

    @torch.no_grad()
    def sample(self, encoded: Encoded, passes: int) -> tuple[Instances, ...]:
        """The instances of each pass."""
        return tuple(self._find(encoded, colours, self.config.confidence_threshold) for colours in self.network(passes))

    @torch.no_grad()
    def propose(self, encoded: Encoded, passes: int) -> Proposals:
        """What the first pass finds."""
        found = self._find(encoded, self.network(passes)[0], 0.0)
        return Proposals(found.boxes_xyxy[:MOST_PROPOSALS], found.softmaxes[:MOST_PROPOSALS])

    def predict(self, image: np.ndarray, *, confidence_threshold: float | None = None) -> Instances:
        """The ordinary prediction."""
        return self.decode(self.features(image), confidence_threshold=confidence_threshold)

    def embedding(self, encoded: Encoded) -> np.ndarray:
        """The mean colour."""
        colour = encoded.small.mean((0, 1))
        return np.asarray((colour / colour.norm().clamp(min=1e-12)).numpy(), np.float32)

    def features(self, image: np.ndarray) -> Encoded:
        """The image on the small grid."""
        scale = GRID / max(image.shape[:2])
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        return Encoded(torch.from_numpy(small), image.shape[:2])

    @torch.no_grad()
    def segment(self, features: Encoded, box_xyxy: np.ndarray, label: int | None) -> np.ndarray:
        """The pixels in a box that are near the label's colour, or without one near any class's."""
        h, w = features.original_hw
        distance = torch.cdist(features.small.reshape(-1, 3), self.network.colours)  # (h * w, c)
        distance = distance.min(1).values if label is None else distance[:, label]
        near = (distance < REACH).reshape(features.small.shape[:2]).numpy()
        mask = cv2.resize(near.astype(np.uint8), (w, h), interpolation=cv2.INTER_NEAREST).astype(bool)
        x0, y0, x1, y1 = np.round(box_xyxy).astype(int).clip(0)
        inside = np.zeros_like(mask)
        inside[y0:y1, x0:x1] = mask[y0:y1, x0:x1]
        return inside

    def _find(self, encoded: Encoded, colours: torch.Tensor, threshold: float) -> Instances:
        distance = torch.cdist(encoded.small.reshape(-1, 3), colours).reshape(*encoded.small.shape[:2], -1)  # (h, w, c)
        nearest = torch.where(distance.min(-1).values < REACH, distance.argmin(-1), -1).numpy()
        h, w = encoded.original_hw
        found: list[tuple[float, int, np.ndarray]] = []
        for label in range(len(self.classes)):
            count, parts, stats, _ = cv2.connectedComponentsWithStats((nearest == label).astype(np.uint8))
            for part in (p for p in range(1, count) if stats[p, cv2.CC_STAT_AREA] >= 4):
                inside = parts == part
                score = float(1 - distance[..., label].numpy()[inside].mean() / REACH / 2)
                big = cv2.resize(inside.astype(np.uint8), (w, h), interpolation=cv2.INTER_NEAREST).astype(bool)
                if score > threshold and big.any():
                    found.append((score, label, big))
        found.sort(key=lambda item: -item[0])
        return self._instances(found[: self.config.detections_per_image], (h, w))

    def _instances(self, found: Sequence[tuple[float, int, np.ndarray]], size_hw: tuple[int, int]) -> Instances:
        if not found:
            return Instances.none(size_hw, len(self.classes))
        boxes, softmaxes = [], []
        for score, label, mask in found:
            ys, xs = np.where(mask)
            boxes.append((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1))
            row = np.full(len(self.classes), (1 - score) / max(len(self.classes) - 1, 1), np.float32)
            row[label] = score
            softmaxes.append(row)
        return Instances(
            boxes_xyxy=np.array(boxes, np.float32),
            scores=np.array([score for score, _, _ in found], np.float32),
            labels=np.array([label for _, label, _ in found], np.int64),
            softmaxes=np.stack(softmaxes),
            masks=np.stack([mask for _, _, mask in found]),
        )

    def losses(self, images: Sequence[torch.Tensor], targets: Sequence[Target]) -> dict[str, torch.Tensor]:
        """Squared distance between each class's colour and that of its objects."""
        self.network.train()
        loss = self.network.colours.sum() * 0
        for image, target in zip(images, targets, strict=True):
            for label, mask in zip(target.labels, target.masks, strict=True):
                colour = image[:, mask.bool()].mean(1)  # (3, h, w) -> (3,)
                loss = loss + (self.network.colours[label] - colour).square().sum()
        return {"loss_colour": loss}

    def tensors(self) -> dict[str, torch.Tensor]:
        """The colours."""
        return dict(self.network.state_dict())

    def load_tensors(self, tensors: Mapping[str, torch.Tensor], classes: Sequence[str]) -> None:
        """Take over the colours of classes of the same name."""
        if "colours" not in tensors or tensors["colours"].shape[1:] != (3,):
            raise BadCheckpoint("weights do not fit the fake engine: it wants a tensor `colours` of shape (classes, 3)")
        if (known := len(tensors["colours"])) != len(classes):
            raise BadCheckpoint(f"the weights know {known} classes, and {len(classes)} were named; name each")
        merged = self.network.colours.detach().clone()
        for index, name in enumerate(self.classes):
            if name in classes:
                merged[index] = tensors["colours"][list(classes).index(name)]
        self.network.load_state_dict({"colours": merged})

    def backbone_stages(self) -> list[list[nn.Parameter]]:
        """There is no backbone."""
        return []

    @property
    def keeping(self) -> Keeping:
        """There is nothing to keep."""
        return Keeping()

    @property
    def has_coco_weights(self) -> bool:
        """There are none."""
        return False

    def load_coco(self) -> None:
        """Always BadEngine."""
        raise BadEngine("engine 'fake' has no COCO weights; set pretrained_weights: none")

    @property
    def has_imagenet_weights(self) -> bool:
        """There are none."""
        return False

    def load_imagenet(self) -> None:
        """Always BadEngine."""
        raise BadEngine("engine 'fake' has no ImageNet weights; set pretrained_weights: none")

    def to(self, device: str) -> FakeEngine:
        """Stay on the CPU, which is all it needs."""
        return self
