from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.engines.base import EngineConfig
from model.engines.torchvision.engine import TorchvisionEngine
from model.errors import BadRecord
from model.records import Outline, Polygon, Record
from model.scaling import AREA, DETECTRON2, Scaling
from model.training.augmentation import Augmentation
from model.training.dataset import RecordDataset, Sample, Showing, collate

CLASSES = ("apple", "pear")
WHITE_PX = (slice(6, 26), slice(4, 24))  # rows 6..25, columns 4..23
BOX_XYXY = [4.0, 6, 24, 26]


def ring(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], float)


def outline(label: str, *corners: float) -> Outline:
    return Outline(label, (Polygon(ring(*corners)),))


def record(*outlines: Outline, size_hw: tuple[int, int] = (40, 60)) -> Record:
    return Record("a.png", size_hw, outlines)


def white_object(name: str) -> np.ndarray:
    """40 x 60, black but for the white object of `SEEN`."""
    image = np.zeros((40, 60, 3), np.uint8)
    image[WHITE_PX] = 255
    return image


SEEN = record(outline("apple", *BOX_XYXY))


def dataset(seen: Record, change: Augmentation | None = None, sides: tuple[int, int] = (40, 60)) -> RecordDataset:
    return RecordDataset([seen], CLASSES, white_object, sides, change)


def sample(
    seen: Record, change: Augmentation | None = None, seed: int = 0, sides: tuple[int, int] = (40, 60)
) -> Sample:
    return dataset(seen, change, sides).sample(Showing(0, seed))


@pytest.mark.parametrize("scaling", [AREA, DETECTRON2])
@pytest.mark.parametrize("size_hw", [(300, 450), (60, 90), (192, 256), (100, 1000)])
def test_a_prediction_sees_an_image_as_training_does(size_hw: tuple[int, int], scaling: Scaling) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), np.uint8)
    engine = TorchvisionEngine(CLASSES, EngineConfig("nano"))
    engine._inputs = replace(engine._inputs, scaling=scaling)
    samples = RecordDataset(
        [record(size_hw=size_hw)], CLASSES, lambda name: image, engine.training_size_hw, scaling=engine.scaling
    )
    shown, _ = samples.sample(Showing(0))
    seen: list[torch.Tensor] = []
    engine.network.backbone.register_forward_pre_hook(lambda backbone, inputs: seen.append(inputs[0]))
    engine.features(image)
    engine.network.backbone(engine.network.transform([shown])[0].tensors)
    assert torch.allclose(*seen, atol=1e-5)


def test_a_sample_is_the_image_and_its_objects() -> None:
    image, target = sample(record(outline("pear", *BOX_XYXY), outline("apple", 30, 0, 60, 8)))
    assert (image.shape, image.dtype) == ((3, 40, 60), torch.float32)
    assert (image.min(), image.max()) == (0, 1)
    assert target.boxes_xyxy.tolist() == [BOX_XYXY, [30, 0, 60, 8]]
    assert target.labels.tolist() == [1, 0]
    assert (target.masks.shape, target.masks.dtype) == ((2, 40, 60), torch.uint8)
    assert torch.equal(target.masks[0] > 0, image[0] > 0.5)
    assert type(target.masks) is type(image) is torch.Tensor


def test_outlines_are_scaled_with_the_image() -> None:
    image, target = sample(SEEN, sides=(20, 60))
    assert image.shape == (3, 20, 30)
    assert target.boxes_xyxy.tolist() == [[2, 3, 12, 13]]
    assert torch.equal(target.masks[0] > 0, image[0] > 0.5)


def test_an_object_of_an_unknown_class_is_told() -> None:
    with pytest.raises(BadRecord, match=r"label 'plum' of image a\.png is not a class of the engine \(apple, pear\)"):
        sample(record(outline("plum", *BOX_XYXY)))


def test_all_parts_of_an_object_are_one_mask_and_one_box() -> None:
    parts = Outline("apple", (Polygon(ring(0, 0, 10, 10)), Polygon(ring(50, 30, 60, 40))))
    _, target = sample(record(parts))
    assert target.masks.sum() == 200
    assert target.boxes_xyxy.tolist() == [[0, 0, 60, 40]]


def test_a_hole_stays_open() -> None:
    holed = Outline("apple", (Polygon(ring(10, 10, 30, 30), (ring(15, 15, 25, 25),)),))
    _, target = sample(record(holed))
    assert target.masks[0, 20, 20] == 0
    assert target.masks.sum() == 400 - 100


def test_a_reviewed_empty_record_gives_an_empty_target() -> None:
    image, target = sample(record(), Augmentation())
    assert image.shape == (3, 40, 60)
    assert target.boxes_xyxy.shape == (0, 4)
    assert (target.labels.shape, target.labels.dtype) == ((0,), torch.int64)
    assert target.masks.shape == (0, 40, 60)


def test_outlines_below_a_pixel_vanish_with_their_label() -> None:
    seen = record(outline("pear", 100, 100, 102, 102), outline("apple", 200, 200, 400, 300), size_hw=(400, 600))
    _, target = sample(seen)
    assert target.labels.tolist() == [0]
    assert target.boxes_xyxy.tolist() == [[20, 20, 40, 30]]


def test_augmentation_keeps_masks_and_boxes_on_their_objects() -> None:
    samples, boxes, is_cut = dataset(SEEN, Augmentation(light=0.0)), set(), False
    for seed in range(60):
        image, target = samples.sample(Showing(0, seed))
        seen = image[0] > 0.7
        [mask] = target.masks.bool()
        assert (mask & seen).sum() / (mask | seen).sum() > 0.85
        ys, xs = torch.where(mask)
        assert target.boxes_xyxy.tolist() == [[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]]
        boxes.add(tuple(target.boxes_xyxy[0].tolist()))
        is_cut |= bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())
    assert len(boxes) > 20 and is_cut
    sizes = np.array([(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes])
    assert sizes.max() > 1.2 * 400 and sizes.min() < 0.8 * 400


def test_mirroring_is_exact() -> None:
    boxes = set()
    for seed in range(40):
        image, target = sample(SEEN, Augmentation(zoom=1.0, light=0.0), seed)
        assert torch.equal(target.masks[0] > 0, image[0] > 0.5)
        boxes.add(tuple(target.boxes_xyxy[0].tolist()))
    assert boxes == {(x, y, x + 20, y + 20) for x in (4, 36) for y in (6, 14)}


def test_an_object_that_is_cut_off_whole_has_no_target() -> None:
    corner = record(outline("apple", 0, 0, 3, 3), outline("pear", *BOX_XYXY))
    counts = {len(sample(corner, Augmentation(zoom=2.0), seed)[1].labels) for seed in range(40)}
    assert counts == {1, 2}


def test_colours_change_and_stay_colours() -> None:
    images = [sample(SEEN, Augmentation(mirror=0, zoom=1.0), seed)[0] for seed in range(20)]
    assert len({round(float(image.mean()), 4) for image in images}) > 5
    assert all(image.min() >= 0 and image.max() <= 1 for image in images)


def test_the_seed_decides_the_augmentation() -> None:
    def drawn(*seeds: int) -> torch.Tensor:
        return torch.stack([sample(SEEN, Augmentation(), seed)[0] for seed in seeds])

    assert torch.equal(drawn(3, 4, 5), drawn(3, 4, 5))
    assert not torch.equal(drawn(3, 4, 5), drawn(6, 7, 8))


def test_the_sample_in_memory_is_not_changed_by_augmentation() -> None:
    samples = dataset(SEEN)
    before = samples.sample(Showing(0))[0].clone()
    samples.augmentation = Augmentation(mirror=1.0)
    assert not torch.equal(samples.sample(Showing(0))[0], before)
    samples.augmentation = None
    assert torch.equal(samples.sample(Showing(0))[0], before)


def test_an_image_is_loaded_once() -> None:
    loaded: list[str] = []

    def load(name: str) -> np.ndarray:
        loaded.append(name)
        return white_object(name)

    samples = RecordDataset([SEEN, SEEN], CLASSES, load, (40, 60))
    assert (len(samples), loaded) == (2, [])
    for index in (0, 0, 0, 1, 0):
        samples.sample(Showing(index))
    assert loaded == ["a.png", "a.png"]


def test_images_beyond_the_memory_are_loaded_anew() -> None:
    loaded: list[str] = []

    def load(name: str) -> np.ndarray:
        loaded.append(name)
        return white_object(name)

    records = [Record(name, (40, 60), SEEN.outlines) for name in ("a.png", "b.png")]
    samples = RecordDataset(records, CLASSES, load, (40, 60), kept_bytes=10_000)
    for index in (0, 1, 0, 1):
        samples.sample(Showing(index))
    assert loaded == ["a.png", "b.png", "b.png"]


def test_a_batch_keeps_images_of_different_sizes() -> None:
    samples = [sample(SEEN), sample(SEEN, sides=(20, 60))]
    images, targets = collate(samples)
    assert [tuple(image.shape) for image in images] == [(3, 40, 60), (3, 20, 30)]
    assert targets == [target for _, target in samples]
