from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.models.detection import roi_heads

from model.engines.base import EngineConfig, Target
from model.engines.pasting import paste_masks
from model.engines.torchvision.engine import TorchvisionEngine

SIDE = 96


def disc(x: float, y: float, diameter: float) -> np.ndarray:
    """(SIDE, SIDE) bool, around a point in pixels."""
    ys, xs = np.mgrid[:SIDE, :SIDE] + 0.5
    return (xs - x) ** 2 + (ys - y) ** 2 <= (diameter / 2) ** 2


def box_around(mask: np.ndarray) -> list[int]:
    ys, xs = np.where(mask)
    return [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


def learned_from(masks: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Masks (n, SIDE, SIDE) as training asks the mask head for them in their own boxes, pasted into the image."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def project(given: torch.Tensor, boxes: torch.Tensor, matched: torch.Tensor, cells: int) -> torch.Tensor:
        targets = theirs(given, boxes, matched, cells)
        seen.append((boxes, targets))
        return targets

    theirs = roi_heads.project_masks_on_boxes
    monkeypatch.setattr(roi_heads, "project_masks_on_boxes", project)
    torch.manual_seed(0)
    engine = TorchvisionEngine(("leaf",), EngineConfig("nano", image_size=(SIDE, SIDE)))
    own = torch.tensor([box_around(mask) for mask in masks], dtype=torch.float32)
    target = Target(own, torch.zeros(len(masks), dtype=torch.int64), torch.from_numpy(masks.astype(np.uint8)))
    engine.losses([torch.rand(3, SIDE, SIDE)], [target])
    [(boxes, targets)] = seen
    rows = [int((boxes - box).abs().sum(1).argmin()) for box in own]  # the objects' own boxes are among the proposals
    return list(paste_masks(targets[rows], boxes[rows], (SIDE, SIDE)))


@pytest.mark.parametrize("diameter", [8.0, 12.0, 30.0])
def test_what_is_learned_lies_where_the_object_does(monkeypatch: pytest.MonkeyPatch, diameter: float) -> None:
    masks = np.stack([disc(30.2, 40.7, diameter), disc(70.5, 60.0, diameter)])
    for mask, learned in zip(masks, learned_from(masks, monkeypatch), strict=True):
        moved = np.mean(np.argwhere(learned), 0) - np.mean(np.argwhere(mask), 0)
        assert np.abs(moved).max() < 0.15, "pixels; torchvision alone moves it by half a pixel up and left"
        assert (mask & learned).sum() / (mask | learned).sum() > 0.9


def test_an_object_on_the_images_rim_reaches_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = np.zeros((2, SIDE, SIDE), bool)
    masks[0, :12, :12] = masks[1, -12:, -12:] = True
    for mask, learned in zip(masks, learned_from(masks, monkeypatch), strict=True):
        assert (mask == learned).all()


def test_an_image_without_objects_can_be_learned_from() -> None:
    engine = TorchvisionEngine(("leaf",), EngineConfig("nano", image_size=(SIDE, SIDE)))
    target = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, SIDE, SIDE, dtype=torch.uint8))
    assert all(torch.isfinite(loss) for loss in engine.losses([torch.rand(3, SIDE, SIDE)], [target]).values())
