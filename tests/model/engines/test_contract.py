"""What every engine promises, on images with two coloured shapes; `--device cuda` asks for it on a GPU."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from model import checkpoints
from model.engines.base import Engine, EngineConfig, Target
from model.engines.loader import ENGINES, build_engine, load_pretrained
from model.errors import BadCheckpoint, BadEngine
from sampling.mc_dropout import ScoringConfig, dropout_on, score

CLASSES = ("red", "blue")
R50 = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"
SIZES = {R50: (192, 256)}
"""Input of networks that would otherwise have a large one."""
ROUNDED_PIXELS = {"cpu": 0, "cuda": 2}
"""Of a mask, on either side of the threshold: a GPU adds up in another order for another number of boxes."""
FROZEN = {"FrozenNorm", "FrozenBatchNorm2d"}
CLASS_LAYERS = {
    "fake": ("colours", 0),
    "torchvision": ("roi_heads.mask_predictor.mask_fcn_logits.weight", 1),
    "detectron2": ("roi_heads.mask_head.predictor.weight", 0),
}
"""A layer with a row per class, and how many rows stand before the first one's."""

BUILDS = [
    pytest.param(("fake", "nano"), id="fake"),
    pytest.param(("torchvision", "nano"), id="nano"),
    pytest.param(("torchvision", "lite"), id="lite"),
    pytest.param(("torchvision", R50), id="detectron2_r50"),
    pytest.param(("detectron2", R50), id="detectron2", marks=pytest.mark.detectron2),
    pytest.param(("torchvision", "maskrcnn_resnet50_fpn"), id="resnet50", marks=pytest.mark.slow),
    pytest.param(("torchvision", "maskrcnn_resnet50_fpn_v2"), id="resnet50_v2", marks=pytest.mark.slow),
]


def picture() -> np.ndarray:
    image = np.full((90, 120, 3), 255, np.uint8)
    image[10:50, 10:50] = (220, 30, 30)
    image[40:80, 70:110] = (30, 30, 220)
    return image


def truth() -> tuple[torch.Tensor, Target]:
    image = torch.from_numpy(picture()).permute(2, 0, 1).float() / 255
    masks = torch.zeros((2, 90, 120), dtype=torch.uint8)
    masks[0, 10:50, 10:50], masks[1, 40:80, 70:110] = 1, 1
    boxes = torch.tensor([[10.0, 10, 50, 50], [70, 40, 110, 80]])
    return image, Target(boxes, torch.tensor([0, 1]), masks)


def settle(engine: Engine) -> None:
    """Give random weights the batch norm statistics of a picture, so that they do not saturate."""
    hooks = []
    for layer in engine.network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None
        elif type(layer).__name__ in FROZEN:
            hooks.append(layer.register_forward_pre_hook(take_statistics))
    image, target = truth()
    with torch.no_grad():
        engine.losses([image], [target])
    engine.network.eval()
    for hook in hooks:
        hook.remove()


def take_statistics(layer: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
    values = inputs[0].float()
    layer.running_mean.copy_(values.mean((0, 2, 3)))
    layer.running_var.copy_(values.var((0, 2, 3)))
    layer.weight.fill_(0.3)  # short of enlarging every rounding error from block to block


@pytest.fixture
def masks_in_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    """No mask reaches beyond the box that the network gave its object, and none changes that box."""
    monkeypatch.setattr("model.engines.torchvision.engine.enlarged", lambda boxes, *_: boxes)
    monkeypatch.setattr("model.engines.torchvision.engine.with_boxes_of_masks", lambda found: found)


@pytest.fixture(params=BUILDS, scope="module")
def settled(request: pytest.FixtureRequest, device: str) -> Engine:
    """Built once for all tests, as the random weights of a large network take longer than most of them."""
    torch.manual_seed(0)
    name, network = request.param
    if name == "detectron2":
        pytest.importorskip("detectron2", reason="Detectron2 is not installed")
    made = build_engine(
        name, CLASSES, EngineConfig(network=network, confidence_threshold=0.01, image_size=SIZES.get(network))
    )
    if made.has_imagenet_weights:
        made.load_imagenet()
    settle(made.to(device))
    return made


@pytest.fixture
def engine(settled: Engine) -> Engine:
    torch.manual_seed(0)
    return deepcopy(settled)


def device_of(engine: Engine) -> torch.device:
    """Where the weights are; a fake engine stays on the CPU."""
    return next(engine.network.parameters()).device


def seeded(engine: Engine, seed: int) -> torch.Generator:
    return torch.Generator(device_of(engine)).manual_seed(seed)


def test_an_image_gives_instances_in_its_own_pixels(engine: Engine) -> None:
    found = engine.predict(picture())
    assert found.size_hw == (90, 120)
    assert found.softmaxes.shape == (len(found), 2)
    assert (found.scores[:-1] >= found.scores[1:]).all()
    assert (
        (found.boxes_xyxy >= 0).all() and (found.boxes_xyxy[:, 2] <= 120).all() and (found.boxes_xyxy[:, 3] <= 90).all()
    )
    rows = np.arange(len(found))
    assert found.softmaxes[rows, found.labels] == pytest.approx(found.scores)


def test_the_ordinary_prediction_repeats_itself(engine: Engine) -> None:
    first, second = engine.predict(picture()), engine.predict(picture())
    assert (first.scores == second.scores).all() and (first.masks == second.masks).all()


@pytest.fixture(params=[True, False], ids=["exact", "fast"])
def exact(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever would be computed in bfloat16 is not."""
    monkeypatch.setattr("model.engines.torchvision.precision.has_bfloat16", lambda device: False)


def encode(engine: Engine, exact: bool) -> Any:
    [encoded] = engine.encode([picture()], exact=exact)
    return encoded


def assert_same_scores(one: Any, other: Any, exact: bool) -> None:
    """The same scores; in bfloat16 about the same of the surest, as others fall on either side of a threshold."""
    count, rounding = (None, 1e-5) if exact else (10, 0.01)
    assert one.scores[:count] == pytest.approx(other.scores[:count], abs=rounding)


def test_fast_passes_agree_without_dropout_but_for_bfloat16(engine: Engine, float32: None) -> None:
    first, *others = engine.sample(encode(engine, exact=False), 3)
    for other in others:
        assert_same_scores(other, first, exact=True)


def test_passes_differ_with_dropout_and_agree_without(engine: Engine, exact: bool) -> None:
    encoded = encode(engine, exact)
    without = engine.sample(encoded, 3)
    with dropout_on(engine.network, seeded(engine, 1)):
        passes = engine.sample(encoded, 6)
    again = engine.sample(encoded, 3)[0]
    assert len(passes) == 6
    for other in without[1:]:
        assert_same_scores(other, without[0], exact)
    assert len({tuple(np.round(p.scores, 6)) for p in passes}) > 1
    assert_same_scores(again, without[0], exact)  # dropout is off again


def test_an_exact_pass_without_dropout_is_the_ordinary_prediction(engine: Engine, masks_in_boxes: None) -> None:
    encoded = encode(engine, exact=True)
    [found], usual = engine.sample(encoded, 1), engine.decode(encoded)
    assert found.scores == pytest.approx(usual.scores, abs=1e-5)
    assert np.array_equal(found.masks, usual.masks) and np.array_equal(found.labels, usual.labels)


def test_the_same_seed_gives_the_same_certainty(engine: Engine, exact: bool) -> None:
    encoded, config = encode(engine, exact), ScoringConfig(passes=4, exact=exact)
    values = [score(engine, encoded, config, seeded(engine, seed)).certainty for seed in (5, 5)]
    assert values[0] == values[1] or all(np.isnan(values))


def test_a_pass_counts_objects_of_each_class(engine: Engine, exact: bool) -> None:
    found = score(engine, encode(engine, exact), ScoringConfig(passes=3, exact=exact), seeded(engine, 1))
    assert found.class_counts.shape == (2,) and (found.class_counts >= 0).all()


def test_what_may_be_an_object_is_proposed_once_whatever_its_class(engine: Engine, exact: bool) -> None:
    encoded = encode(engine, exact)
    with dropout_on(engine.network, seeded(engine, 1)):
        found = engine.propose(encoded, 4)
    assert found.probabilities.shape == (len(found), 2) and found.boxes_xyxy.shape == (len(found), 4)
    assert 0 < len(found) <= 50
    assert (found.probabilities >= 0).all() and (found.probabilities.sum(1) <= 1 + 1e-3).all()
    assert (found.boxes_xyxy[:, 2:] > found.boxes_xyxy[:, :2]).all() and (found.boxes_xyxy >= 0).all()
    assert (found.boxes_xyxy[:, 2] <= 120).all() and (found.boxes_xyxy[:, 3] <= 90).all()
    overlaps = box_iou(torch.from_numpy(found.boxes_xyxy), torch.from_numpy(found.boxes_xyxy)).fill_diagonal_(0)
    assert overlaps.max() <= engine.config.nms_threshold + 0.01, "each place once"


def test_a_score_stays_the_same_whether_objects_are_proposed_or_not(engine: Engine, exact: bool) -> None:
    config = ScoringConfig(passes=3, exact=exact)
    encoded = encode(engine, exact)
    before = score(engine, encoded, config, seeded(engine, 1))
    engine.propose(encoded, 3)
    after = score(engine, encoded, config, seeded(engine, 1))
    assert before.certainty == after.certainty or (np.isnan(before.certainty) and np.isnan(after.certainty))


def test_images_together_give_what_they_give_alone(engine: Engine, exact: bool) -> None:
    turned = np.ascontiguousarray(picture()[::-1])
    wide = np.concatenate([picture(), turned], axis=1)
    images = [picture(), wide, turned]
    together = [engine.decode(e) for e in engine.encode(images, exact=exact)]
    for image, found in zip(images, together, strict=True):
        [encoded] = engine.encode([image], exact=exact)
        alone = engine.decode(encoded)
        assert found.size_hw == image.shape[:2]
        assert found.scores[:3] == pytest.approx(alone.scores[:3], abs=1e-5 if exact else 0.02)


def test_threads_may_predict_at_once(engine: Engine, exact: bool) -> None:
    alone = engine.decode(encode(engine, exact))
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: engine.decode(encode(engine, exact)), range(6)))
    for other in found:
        assert other.scores[:10] == pytest.approx(alone.scores[:10], abs=1e-5 if exact else 0.02)


def test_no_image_is_no_encoding(engine: Engine) -> None:
    assert list(engine.encode([])) == []


def test_similar_images_have_similar_embeddings(engine: Engine) -> None:
    noisy = np.clip(picture().astype(int) + np.random.default_rng(0).integers(-5, 6, picture().shape), 0, 255)
    other = np.random.default_rng(1).integers(0, 255, picture().shape)
    images = [picture(), noisy.astype(np.uint8), other.astype(np.uint8)]
    first, near, far = (engine.embedding(e) for e in engine.encode(images))
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-3)
    assert np.linalg.norm(first - near) < np.linalg.norm(first - far)


def test_losses_can_be_learned_from_also_with_an_empty_image(engine: Engine) -> None:
    image, target = truth()
    empty = Target(torch.zeros((0, 4)), torch.zeros(0, dtype=torch.int64), torch.zeros((0, 90, 120), dtype=torch.uint8))
    losses = engine.losses([image, image], [target, empty])
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in engine.network.parameters())


def test_a_box_is_segmented_as_the_ordinary_prediction_does_it_but_for_bfloat16(
    engine: Engine, masks_in_boxes: None, float32: None
) -> None:
    assert_segmented(engine, ROUNDED_PIXELS[device_of(engine).type], 0.0)


def test_a_box_is_segmented_about_as_the_ordinary_prediction_does_it(engine: Engine, masks_in_boxes: None) -> None:
    assert_segmented(engine, 5, 0.1)


def assert_segmented(engine: Engine, pixels: int, share: float) -> None:
    """Found boxes get their masks again but for so many pixels, or for that share of them if that is more."""
    found = engine.predict(picture())
    areas = (found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]).prod(1)
    filled = np.flatnonzero(found.masks.sum((1, 2)) > 0.1 * areas)  # random weights leave specks at the threshold, too
    assert len(filled)
    features = engine.features(picture())
    for index in filled[:3]:
        mask = engine.segment(features, found.boxes_xyxy[index], int(found.labels[index]))
        either = (mask | found.masks[index]).sum()
        assert mask.shape == (90, 120) and mask.dtype == bool
        assert (mask ^ found.masks[index]).sum() <= max(pixels, share * either)
    guessed = engine.segment(features, found.boxes_xyxy[0], None)
    x0, y0, x1, y1 = np.floor(found.boxes_xyxy[0]).astype(int)
    guessed[y0 : y1 + 1, x0 : x1 + 1] = False
    assert not guessed.any(), "nothing outside of the box"


def test_weights_survive_a_file(engine: Engine, tmp_path) -> None:
    checkpoints.save(tmp_path / "w.safetensors", engine.tensors(), {"classes": '["red", "blue"]'})
    torch.manual_seed(9)
    other = build_engine(engine.name, CLASSES, engine.config).to(str(device_of(engine)))
    load_pretrained(other, str(tmp_path / "w.safetensors"), ("something", "else"))
    ours, theirs = engine.tensors(), other.tensors()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    before, after = engine.predict(picture()), other.predict(picture())
    assert before.scores == pytest.approx(after.scores, abs=1e-6)


def test_classes_are_matched_by_name(engine: Engine) -> None:
    other = build_engine(engine.name, ("green", "blue", "red"), engine.config).to(str(device_of(engine)))
    other.load_tensors(engine.tensors(), CLASSES)
    ours, theirs = engine.tensors(), other.tensors()
    name, shift = CLASS_LAYERS[engine.name]
    assert torch.equal(theirs[name][2 + shift], ours[name][0 + shift])
    assert torch.equal(theirs[name][1 + shift], ours[name][1 + shift])


def test_weights_of_another_network_are_refused(engine: Engine) -> None:
    with pytest.raises(BadCheckpoint, match="do not fit"):
        engine.load_tensors({"nothing": torch.zeros(1)}, CLASSES)


def test_an_unknown_engine_or_network_is_named() -> None:
    with pytest.raises(BadEngine, match=f"one of {', '.join(ENGINES)}, got 'yolo'"):
        build_engine("yolo", CLASSES, EngineConfig())
    with pytest.raises(BadEngine, match=r"network_config must be one of lite, nano, .*got 'vgg'"):
        build_engine("torchvision", CLASSES, EngineConfig(network="vgg"))
