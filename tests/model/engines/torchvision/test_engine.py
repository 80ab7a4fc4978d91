from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models.detection import transform
from torchvision.ops import roi_align

from model.engines.base import EngineConfig, Target
from model.engines.pasting import enlarged, paste_masks
from model.engines.results import detections
from model.engines.torchvision.engine import TorchvisionEngine
from model.engines.torchvision.mask_samples import read_boxes
from model.engines.torchvision.precision import has_bfloat16
from model.engines.torchvision.roi_inference import RoIInference
from model.geometry import box_of
from sampling.mc_dropout import ScoringConfig, score


def engine_in_doubt(between: tuple[float, ...]) -> TorchvisionEngine:
    """A network that sees an object in every proposal, and these probabilities of its classes."""
    torch.manual_seed(0)
    engine = TorchvisionEngine(("red", "blue"), EngineConfig(network="nano", confidence_threshold=0.5))
    head = engine.network.roi_heads.box_predictor.cls_score
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor([1 - sum(between), *between]).log())
    return engine


def certainty(engine: TorchvisionEngine, exact: bool) -> float:
    [encoded] = engine.encode([np.full((90, 120, 3), 128, np.uint8)], exact=exact)
    return score(engine, encoded, ScoringConfig(4, exact=exact), torch.Generator().manual_seed(0)).certainty


def test_an_object_whose_class_is_in_doubt_is_not_lost_where_nothing_else_is_found() -> None:
    engine = engine_in_doubt((0.4, 0.4))
    assert np.isnan(certainty(engine, exact=True)), "as published"
    assert certainty(engine, exact=False) < 0.1


def test_what_is_no_object_of_any_class_stays_without_a_certainty() -> None:
    engine = engine_in_doubt((0.2, 0.2))
    assert np.isnan(certainty(engine, exact=True)) and np.isnan(certainty(engine, exact=False))


def test_without_bfloat16_the_fast_prediction_is_the_ordinary_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.engines.torchvision.precision.has_bfloat16", lambda device: False)
    torch.manual_seed(0)
    engine = TorchvisionEngine(("red", "blue"), EngineConfig(network="nano", confidence_threshold=0.3))
    images = [np.random.default_rng(seed).integers(0, 255, (90, 120, 3), np.uint8) for seed in range(3)]
    for fast, exact in zip(engine.encode(images), engine.encode(images, exact=True), strict=True):
        ours, ordinary = engine.decode(fast), engine.decode(exact)
        assert len(ours) == len(ordinary) > 0
        assert np.allclose(ours.boxes_xyxy, ordinary.boxes_xyxy, atol=0.05)
        assert (ours.masks == ordinary.masks).mean() > 0.999
        assert engine.sample(fast, 2)[0].boxes_xyxy.dtype == np.float32


def test_a_look_ends_where_the_best_of_the_proposals_left_show_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.engines.torchvision.roi_inference.LOOKED_AT_ONCE", 8)
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    for in_doubt, looked in ((0.001, 8), (0.4, len(engine_in_doubt((0.4, 0.4)).encode([image], exact=True)[0].rows))):
        [encoded] = engine_in_doubt((in_doubt, in_doubt)).encode([image])
        assert encoded.first_look is not None and len(encoded.first_look.boxes) == looked > 0


def test_a_fast_look_leaves_training_all_proposals() -> None:
    image = torch.rand(3, 96, 96, generator=torch.Generator().manual_seed(1))
    target = Target(torch.tensor([[8.0, 8, 40, 40]]), torch.tensor([0]), torch.ones(1, 96, 96, dtype=torch.uint8))
    losses = []
    for has_looked in (False, True):
        torch.manual_seed(3)
        engine = TorchvisionEngine(("leaf",), EngineConfig("nano"))
        torch.nn.init.constant_(engine.network.rpn.head.cls_logits.bias, -9.0)  # a fast look drops all
        if has_looked:
            assert len(engine.encode([np.zeros((96, 96, 3), np.uint8)])[0].proposals) == 0
        torch.manual_seed(4)
        with torch.no_grad():
            losses.append({name: float(loss) for name, loss in engine.losses([image], [target]).items()})
    assert losses[0] == pytest.approx(losses[1])


def train_on(side: int) -> None:
    """Show a network whose input is 96 pixels wide a square image with one object."""
    torch.manual_seed(3)
    engine = TorchvisionEngine(("leaf",), EngineConfig("nano", image_size=(96, 96)))
    image = torch.rand(3, side, side, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(1, side, side, dtype=torch.uint8)
    mask[:, side // 4 : side // 2, side // 4 : side // 2] = 1
    corner = torch.tensor([[side // 4, side // 4, side // 2, side // 2]], dtype=torch.float32)
    engine.losses([image], [Target(corner, torch.tensor([0]), mask)])


def test_what_has_the_networks_size_is_not_scaled_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    scaled = []

    def spy(image: torch.Tensor, *others: Any) -> Any:
        scaled.append(tuple(image.shape[-2:]))
        return theirs(image, *others)

    theirs = transform._resize_image_and_masks
    monkeypatch.setattr(transform, "_resize_image_and_masks", spy)
    train_on(96)
    assert not scaled
    train_on(192)
    assert scaled == [(192, 192)]


@pytest.mark.parametrize(("capability", "has"), [("AVX512", True), ("AVX2", False)])
def test_a_cpu_that_torch_is_told_to_use_as_a_plain_one_has_no_bfloat16(
    monkeypatch: pytest.MonkeyPatch, capability: str, has: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert has_bfloat16(torch.device("cpu")) is has


@pytest.mark.parametrize(("capability", "has"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_bfloat16_is_used_only_by_gpus_that_compute_with_it(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], has: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert has_bfloat16(torch.device("cuda:1")) is has


def test_an_image_that_is_hardly_high_changes_nothing_for_those_after_it() -> None:
    """torchvision's RoIAlign takes the strides of all images from the first one."""
    torch.manual_seed(0)
    engine = TorchvisionEngine(("red", "blue"), EngineConfig(network="nano", image_size=(96, 128)))
    plain, thin = (np.random.default_rng(0).integers(0, 255, (h, 192, 3), np.uint8) for h in (144, 15))
    [alone] = engine.encode([plain], exact=True)
    other = TorchvisionEngine(("red", "blue"), engine.config)
    other.load_tensors(engine.tensors(), engine.classes)
    [first], [after] = (other.encode([image], exact=True) for image in (thin, plain))
    assert len(first.rows) > 0 and torch.equal(alone.rows, after.rows)


def test_training_and_prediction_read_an_image_that_is_hardly_high_in_the_same_places() -> None:
    torch.manual_seed(0)
    network = TorchvisionEngine(("red",), EngineConfig(network="nano", image_size=(96, 128))).network
    levels = {str(i): torch.randn(1, 64, 32 >> (2 + i), 128 >> (2 + i)) for i in range(4)}
    boxes = [torch.tensor([[90.0, 2.0, 120.0, 9.0], [3.0, 1.0, 9.0, 8.0]])]
    pooler = network.roi_heads.box_roi_pool
    trained, predicted = (pooler.train(mode)(levels, boxes, [(10, 128)]) for mode in (True, False))
    assert torch.allclose(trained, predicted, atol=1e-4)
    read = roi_align(levels["0"], boxes, 7, 0.25, 2)
    assert torch.allclose(predicted, read, atol=1e-4)


@pytest.mark.parametrize("exact", [True, False])
def test_a_box_that_lies_beyond_the_image_is_no_object_that_the_passes_are_unsure_of(exact: bool) -> None:
    engine = engine_in_doubt((0.8, 0.1))
    assert certainty(engine, exact) > 0
    torch.nn.init.constant_(engine.network.roi_heads.box_predictor.bbox_pred.bias, 1e4)  # all to the right
    assert np.isnan(certainty(engine, exact))


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "fast"])
def test_masks_of_many_objects_are_computed_in_parts(monkeypatch: pytest.MonkeyPatch, exact: bool) -> None:
    """Ten passes over a crowd find thousands: at once their features took more than 10 GB."""
    engine = engine_in_doubt((0.1, 0.8))
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    [encoded] = engine.encode([image], exact=exact)
    whole = engine.sample(encoded, 3)
    assert sum(map(len, whole)) > 14
    monkeypatch.setattr("model.engines.torchvision.roi_inference.MASKS_AT_ONCE", 7)
    at_once: list[int] = []
    module = "model.engines.torchvision.roi_inference"
    monkeypatch.setattr(f"{module}.read_boxes", lambda *parts: at_once.append(len(parts[3])) or read_boxes(*parts))
    if exact:
        predictor = engine.network.roi_heads.mask_predictor
        predictor.register_forward_hook(lambda layer, given, made: at_once.append(len(made)))
    for ours, theirs in zip(engine.sample(encoded, 3), whole, strict=True):
        for mask, other in zip(ours.masks, theirs.masks, strict=True):
            assert (mask == other).mean() > 0.99
    assert max(at_once) == 7 and sum(at_once) == sum(map(len, whole))


@pytest.mark.parametrize(("network", "room"), [("lite", 1.2), ("nano", 1.2), ("maskrcnn_resnet50_fpn", 1.0)])
def test_a_mask_has_room_around_a_box_that_was_learned_from_few_images(
    network: str, room: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled = torch.ones(100, 28, 28)
    monkeypatch.setattr(RoIInference, "masks", lambda self, encoded, boxes, *_: filled[: len(boxes)])
    torch.manual_seed(0)
    engine = TorchvisionEngine(("red", "blue"), EngineConfig(network, confidence_threshold=0.3, image_size=(96, 128)))
    [encoded] = engine.encode([np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)], exact=True)
    look = RoIInference(engine.network, engine.config).first_look(encoded)
    boxes = enlarged(detections(look.probabilities, look.boxes, engine.config).boxes_xyxy, room, (96, 128))
    found = engine.decode(encoded)
    assert len(found) == len(boxes) > 0
    assert (found.masks == paste_masks(filled[: len(boxes)], boxes, (96, 128))).all()
    wanted = boxes.detach().numpy() if room == 1 else np.array([box_of(mask) for mask in found.masks])
    assert np.allclose(found.boxes_xyxy, wanted)
