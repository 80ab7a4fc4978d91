from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.models.detection import roi_heads

from model.engines.base import EngineConfig, Target
from model.engines.pasting import paste_masks
from model.engines.torchvision import mask_room
from model.engines.torchvision.engine import TorchvisionEngine
from model.engines.torchvision.mask_room import with_learned_room

SIDE = 96


def learned(network: str, room: float, monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (n, 4) in which training asks for masks, and what it asks for, (n, SIDE, SIDE) bool."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def project(given: torch.Tensor, boxes: torch.Tensor, matched: torch.Tensor, cells: int) -> torch.Tensor:
        seen.append((boxes, theirs(given, boxes, matched, cells)))
        return seen[-1][1]

    theirs = roi_heads.project_masks_on_boxes
    with monkeypatch.context() as patch:
        patch.setattr(roi_heads, "project_masks_on_boxes", project)
        patch.setattr(mask_room, "LEARNED_ROOM", room)
        torch.manual_seed(0)
        engine = TorchvisionEngine(("leaf",), EngineConfig(network, image_size=(SIDE, SIDE)))
        masks = torch.zeros(2, SIDE, SIDE, dtype=torch.uint8)
        masks[0, 20:44, 30:50] = masks[1, 60:, 50:80] = 1
        own = torch.tensor([[30.0, 20, 50, 44], [50, 60, 80, SIDE]])
        engine.losses([torch.rand(3, SIDE, SIDE)], [Target(own, torch.zeros(2, dtype=torch.int64), masks)])
    [(boxes, asked)] = seen
    return boxes.numpy(), paste_masks(asked, boxes, (SIDE, SIDE))


@pytest.mark.parametrize("network", ["nano", "lite"])
def test_the_loss_asks_for_masks_in_the_boxes_with_room(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, _ = learned(network, 1.0, monkeypatch)
    roomy, asked = learned(network, 1.3, monkeypatch)
    assert len(plain) == len(roomy) >= 2
    assert (roomy[:, :2] <= plain[:, :2] + 1e-4).all() and (roomy[:, 2:] >= plain[:, 2:] - 1e-4).all()
    assert (roomy != plain).any(1).all()
    assert (roomy[:, :2] >= 0).all() and (roomy[:, 2:] <= SIDE).all()
    shown = [mask[20:44, 30:50].mean() + mask[60:, 50:80].mean() for mask in asked]
    assert min(shown) > 0.3 and all(not mask[:15].any() for mask in asked), "the object itself, wherever the box ends"


def test_masks_of_networks_that_know_boxes_are_learned_in_their_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, _ = learned("maskrcnn_resnet50_fpn", 1.0, monkeypatch)
    roomy, _ = learned("maskrcnn_resnet50_fpn", 1.3, monkeypatch)
    assert (plain == roomy).all()


def test_the_room_is_of_chance_while_a_network_learns_and_a_pass_has_none() -> None:
    pooler = torch.nn.Identity()
    boxes = torch.tensor([[40.0, 40, 60, 50]]).repeat(200, 1)
    given = (None, [boxes, boxes[:0]], [(SIDE, SIDE)] * 2)
    with_learned_room(pooler.train(), given)
    times = (given[1][0][:, 2:] - given[1][0][:, :2]) / torch.tensor([20.0, 10])
    assert torch.allclose(times[:, 0], times[:, 1], atol=1e-4), "as much in height as in width"
    assert 1 <= times.min() < 1.05 and 1.25 < times.max() <= 1.3001
    assert len(given[1][1]) == 0

    given = (None, [boxes], [(SIDE, SIDE)])
    with_learned_room(pooler.eval(), given)
    assert given[1][0] is boxes
